"""The documents agree with the code: snippets run, links lead to a file, and the names in them exist."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.cli.main import app
from pipeline.config.setting_names import flatten
from pipeline.recipes.registry import recipe
from tests.helpers.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED_PAGES = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
HISTORY = ROOT / "docs" / "lab_notebook.md"
"""It tells what was done at the time, with the names of the time."""
CURRENT_PAGES = [page for page in PAGES if page != HISTORY]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
FOLDERS = "augment|solver|submissions|pipeline|tests|benchmarks|notebooks"
FILE_PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})(?:/[\w.-]+)*/[\w-]+\.(?:py|ipynb|md)\b")
MODULE_NAME = re.compile(r"(?<![\w/.=-])(?:augment|solver|submissions|pipeline|benchmarks)(?:\.[A-Za-z_]\w*)+")
TEST_NAME = re.compile(r"(?<![\w/])test_\w+(?!\w|\.py)")
RESULTS = re.compile(r"`(results/[^`]+)`")
SETTING = re.compile(r"(?<![\w/.])(?:puzzles|model|train|predict|unattended)(?:\.[a-z]\w*)+")
FILE_SUFFIXES = (".safetensors", ".csv", ".json", ".parquet")
COMMAND_LINE = re.compile(r"-m pipeline (\w+)(.*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def python_snippets(page: Path) -> list[str]:
    return [code for language, code in FENCE.findall(page.read_text()) if language == "python"]


def code_of(page: Path) -> str:
    """Everything that a page shows as code, one piece a line."""
    text = page.read_text()
    fenced = [code for _, code in FENCE.findall(text)]
    return "\n".join([*fenced, *CODE_SPAN.findall(FENCE.sub("", text))])


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module holds."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found = importlib.util.find_spec(module_name)
        except ModuleNotFoundError:
            continue
        if found is None:
            continue
        if length == len(parts):
            return True
        value = importlib.import_module(module_name)
        for part in parts[length:]:
            if not hasattr(value, part):
                return part in getattr(value, "__annotations__", {})
            value = getattr(value, part)
        return True
    return False


def test_the_pages_have_snippets_to_run() -> None:
    assert python_snippets(ROOT / "docs" / "architecture.md")


@pytest.mark.parametrize("page", names([page for page in PAGES if python_snippets(page)]))
def test_python_snippets_run(page: str, tmp_path: Path) -> None:
    # In a process of their own: a snippet may register a ranker or a recipe, which other tests would find.
    program = tmp_path / "snippets.py"
    program.write_text("\n\n".join(python_snippets(ROOT / page)))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def leads_nowhere(page: Path, target: str) -> bool:
    """Whether a relative link names a file, or a heading of one, that is not there."""
    file, _, heading = target.partition("#")
    place = page.parent / file if file else page
    if not place.exists():
        return True
    return bool(heading) and heading not in map(anchor, HEADING.findall(FENCE.sub("", place.read_text())))


@pytest.mark.parametrize("page", names(LINKED_PAGES))
def test_links_lead_to_a_file_and_a_heading(page: str) -> None:
    path = ROOT / page
    targets = LINK.findall(CODE_SPAN.sub("", FENCE.sub("", path.read_text())))
    assert [target for target in targets if "://" not in target and leads_nowhere(path, target)] == []


@pytest.mark.parametrize("page", names(CURRENT_PAGES))
def test_files_named_in_code_exist(page: str) -> None:
    missing = {path for path in FILE_PATH.findall(code_of(ROOT / page)) if not (ROOT / path).is_file()}
    assert not missing


@pytest.mark.parametrize("page", names(CURRENT_PAGES))
def test_modules_named_in_code_exist(page: str) -> None:
    named = set(MODULE_NAME.findall(code_of(ROOT / page)))
    unknown = {name for name in named if not name.endswith(FILE_SUFFIXES) and not resolves(name)}
    assert not unknown


@pytest.mark.parametrize("page", names(CURRENT_PAGES))
def test_commands_and_options_named_in_code_exist(page: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    lines = COMMAND_LINE.findall(code_of(ROOT / page).replace("\\\n", " "))
    assert {command for command, _ in lines if command.islower()} <= commands.keys()
    assert {option for _, words in lines for option in OPTION.findall(words)} <= {*options, "--debug", "--help"}


@pytest.mark.parametrize("page", names(CURRENT_PAGES))
def test_settings_named_in_code_exist(page: str) -> None:
    settings = flatten(recipe("kaggle").model_dump())
    known = set(settings) | {group for name in settings for group in groups(name)}
    named = {name for name in SETTING.findall(code_of(ROOT / page)) if not name.endswith(FILE_SUFFIXES)}
    assert named - known == set()


def test_tests_named_by_the_contributing_page_exist() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named = set(TEST_NAME.findall(code_of(ROOT / "CONTRIBUTING.md")))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_the_benchmarks_page_names_result_files_that_exist() -> None:
    folder = ROOT / "benchmarks"
    patterns = RESULTS.findall((folder / "README.md").read_text())
    assert [pattern for pattern in patterns if not list(folder.glob(pattern))] == []


def groups(name: str) -> list[str]:
    """The groups of settings that a dotted name is in."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def test_the_readme_shows_the_calls_of_solve() -> None:
    """Each line of its block names a function that pipeline/solve.py calls, in the same order."""
    block = (ROOT / "README.md").read_text().split("## The stages in code")[1].split("```")[1]
    shown = re.findall(r"\b([a-z_]+)\(", block)
    tree = ast.parse((ROOT / "pipeline" / "solve.py").read_text())
    calls = sorted(
        (node.lineno, node.col_offset, node.func.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    called = [name for *_, name in calls if name in shown]
    assert len(shown) >= 8
    assert called == shown
