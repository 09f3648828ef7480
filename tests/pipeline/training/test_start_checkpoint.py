"""The checkpoint that a run starts from: its digest is recorded, and it is not needed to resume."""

import shutil
import signal
from pathlib import Path

import pytest

from solver.training.learner import Learner
from tests.helpers.commands import refuse, run
from tests.helpers.resume import STEPS, TRAIN, after, same_run
from tests.helpers.sources import FIRST, SECOND, THIRD, read, write_source


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    source = write_source(folder / "scored", FIRST, SECOND)
    train = write_source(folder / "train", THIRD)
    words = ("--score", source, "--train", train, "--augmentations", "2", "--out", folder / "set")
    assert run("build", *words) == 0
    return folder / "set"


@pytest.fixture(scope="module")
def starts(puzzles: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints of different seeds."""
    folder = tmp_path_factory.mktemp("starts")
    words = ("train", "--puzzles", puzzles, *TRAIN, "--set", "train.steps=3")
    for seed in "01":
        assert run(*words, "--set", f"seed={seed}", "--run-dir", folder / seed) == 0
    return [folder / seed / "checkpoints" / "final" for seed in "01"]


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch, *command: str | Path) -> None:
    """Run the training command, and stop it by a signal after a step."""
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(step, lambda: signal.raise_signal(signal.SIGTERM)))
        assert run(*command) == 128 + signal.SIGTERM


def test_a_start_that_was_replaced_is_refused_and_one_that_is_gone_is_not_needed(
    puzzles: Path,
    starts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = shutil.copytree(starts[0], tmp_path / "start")
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--checkpoint", start, "--run-dir")
    assert run(*command, tmp_path / "whole") == 0
    stop_at(7, monkeypatch, *command, tmp_path / "run")
    record = read(tmp_path, "run", "start_checkpoint.json")
    assert record == {"checkpoint": str(start), "sha256": read(start, "checkpoint.json")["sha256"]}
    shutil.rmtree(start)
    shutil.copytree(starts[1], start)
    capsys.readouterr()
    message = refuse(capsys, *command, tmp_path / "run")
    assert f"{start} is not the checkpoint that {tmp_path / 'run'} was started from" in message
    shutil.rmtree(start)
    assert run(*command, tmp_path / "run") == 0
    assert f"{start} is gone" in capsys.readouterr().out
    same_run(tmp_path / "whole", tmp_path / "run")
    seen = read(tmp_path, "run", "checkpoints", "final", "seen.json")
    assert seen == read(tmp_path, "whole", "checkpoints", "final", "seen.json")


def test_a_start_that_is_gone_before_the_first_checkpoint_is_refused(
    puzzles: Path, starts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--checkpoint", tmp_path / "none")
    assert str(tmp_path / "none") in refuse(capsys, *command, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{}", '{"sha256": null}', "[1]", "{"])
def test_a_damaged_record_is_refused(
    puzzles: Path, starts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "start_checkpoint.json").write_text(text)
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--checkpoint", starts[0])
    assert "start_checkpoint.json" in refuse(capsys, *command, "--run-dir", tmp_path / "run")
