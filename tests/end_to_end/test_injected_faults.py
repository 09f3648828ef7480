"""An unattended run, simulated whole: undisturbed it solves tasks; with an injected fault it ends well and loses
nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from tests.kaggle_simulation.injected_faults import FAULTS
from tests.kaggle_simulation.sandbox import CHECKOUT
from tests.kaggle_simulation.simulation import shipped_backbone, simulate, simulate_notebook

pytestmark = pytest.mark.slow

LONE_RUNS = 2
"""Four minutes teach one to four of 31 test inputs, and now and then, by the clock, none: then once more."""


def test_left_alone_it_solves_some_tasks_in_time(tmp_path: Path) -> None:
    solved = 0
    for number in range(LONE_RUNS):
        outcome = simulate(tmp_path / f"kaggle_{number}", 240, backbone=shipped_backbone())
        assert outcome.complaints() == []
        assert outcome.incidents == []
        assert outcome.answered > 0.9 * outcome.inputs, "an input whose grids all lack an end mark has no answer"
        if solved := outcome.solved:
            break
    assert solved > 0


@pytest.mark.parametrize("name", FAULTS)
def test_hurt_it_ends_in_time_with_what_it_had_reached(name: str, tmp_path: Path) -> None:
    outcome = simulate(tmp_path / "kaggle", FAULTS[name].budget, FAULTS[name], shipped_backbone())
    assert outcome.complaints() == []
    assert outcome.asked_last if FAULTS[name].from_scratch else outcome.answered > 0


def test_one_of_two_processes_is_killed_and_both_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two with two threads each would mostly wait for each other
    killed = replace(FAULTS["trainer killed"], leaves="one of its processes was killed")
    outcome = simulate(tmp_path / "kaggle", killed.budget, killed, shipped_backbone(), processes=2)
    assert outcome.complaints() == []
    assert outcome.answered > 0
    assert (tmp_path / "kaggle" / "said.txt").read_text(encoding="utf-8").count("processes: 2") > 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user uploads, made by the command for that."""
    folder = tmp_path_factory.mktemp("upload") / "bundle"
    words = ["bundle", "--out", str(folder), "--backbone", str(shipped_backbone())]
    subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=CHECKOUT, check=True)
    return folder


@pytest.mark.parametrize("rerun", [False, True], ids=["commit run", "scored run"])
def test_the_notebook_does_both_runs_from_what_is_uploaded(rerun: bool, bundle: Path, tmp_path: Path) -> None:
    notebook = CHECKOUT / "notebooks" / "kaggle_submission.ipynb"
    outcome = simulate_notebook(tmp_path / "kaggle", notebook, bundle, 120, rerun)
    assert outcome.complaints() == []
    assert (outcome.answered > 0) == rerun, "the commit run leaves the placeholder"
    cells = nbformat.read(tmp_path / "kaggle" / "executed.ipynb", as_version=4).cells
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert ("not the scored run" in said) == (not rerun)
