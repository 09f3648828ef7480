"""Weights that are not finite are neither saved nor resumed from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoints.checkpoint import ABOUT
from solver.training.learner import Learner
from tests.helpers.commands import run
from tests.helpers.mutations import reseal
from tests.helpers.resume import STEPS, TRAIN, Crash, after, capture_learners, crash


@pytest.mark.parametrize("part", ["model", "average", "ids"])
def test_they_are_not_saved(
    part: str, puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learners = capture_learners(monkeypatch)

    def overflow() -> None:
        # After the last step before a checkpoint, so that no loss and no gradient is computed with it.
        with torch.no_grad():
            next(iter(learners[0].tensors()[part].values())).view(-1)[0] = torch.inf

    monkeypatch.setattr(Learner, "step", after(8, overflow))
    assert run("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "step 8: weights are no longer finite; the last checkpoint, of step 4, is intact" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_0000004"]


@pytest.mark.parametrize("part", ["model", "average", "ids"])
def test_they_are_not_resumed_from(
    part: str, puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(5, crash))
        with pytest.raises(Crash):
            run(*command)
    folder = tmp_path / "run" / "checkpoints" / "step_0000004"
    file = folder / f"{part}.safetensors"
    values = load_file(file)
    next(iter(values.values())).view(-1)[0] = torch.nan
    save_file(values, file)
    reseal(folder / ABOUT)
    assert run(*command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"step_0000004/{part}.safetensors" in said
    assert "remove this step's folder to resume from an earlier one" in said
