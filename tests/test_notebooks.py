"""Notebooks run from their first to their last cell on a run of the `smoke` recipe, and keep no output."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from pipeline.__main__ import main

FOLDER = Path(__file__).parent.parent / "notebooks"


def execute(name: str) -> NotebookNode:
    """The notebook with its outputs."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    return notebook


def shown(notebook: NotebookNode) -> str:
    """All outputs as text, HTML where there is some."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            found.append(data.get("text/html") or data.get("text/plain") or output.get("text", ""))
    return "\n".join(found)


def test_explore_shows_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "smoke"
    line = ["solve", "--recipe", "smoke", "--run", str(run)]
    with pytest.raises(SystemExit) as ended:
        main([*line, "--set", "train.steps=4", "--set", "puzzles.augmentations=2"])
    assert not ended.value.code
    monkeypatch.setenv("ARC_TRM_RUN", str(run))
    text = shown(execute("explore.ipynb"))
    assert "arc-agi-1/training: 4 tasks, 7 test outputs" in text
    assert "<h4>Recursion</h4>" in text
    assert text.count("<svg") >= 12
    assert "answer_moved" in text


def test_explore_says_what_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARC_TRM_RUN", str(tmp_path))
    with pytest.raises(CellExecutionError, match="holds no predictions"):
        execute("explore.ipynb")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.ipynb")), ids=lambda file: file.name)
def test_notebooks_keep_no_outputs(file: Path) -> None:
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []
