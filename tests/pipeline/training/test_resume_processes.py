"""Several processes train what one does; their number may change at a resume, and none is lost unsaid."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.testing import assert_close

from pipeline.runtime.exit_codes import ExitCode
from solver.training.learner import Learner
from tests.helpers.commands import launch, run
from tests.helpers.paths import ROOT
from tests.helpers.resume import OPTIONAL, STEPS, TRAIN, after, lines, tensors


@pytest.mark.parametrize("feed", [pytest.param("all", marks=pytest.mark.slow), "halted"])
def test_any_number_of_processes_trains_the_same(puzzles: Path, tmp_path: Path, feed: str) -> None:
    """14 slots of 4 processes: shares of 3 and 4; one batch of held-out examples: most processes have none.

    All of them are new processes. The initial weights and the rotary tables are float32, and torch's functions for
    them were seen to differ in the last bit in a process that had run other tests before.
    """
    chosen = ("--puzzles", puzzles, *TRAIN, "--set", "train.batch_size=14", "--set", "train.precision=fp64")
    chosen = (*chosen, "--set", f"train.feed={feed}", "--set", "train.hold_out=3")
    chosen = (*chosen, "--set", "train.steps=20")
    assert launch(1, "train", *chosen, "--run-dir", tmp_path / "1").returncode == 0
    for processes in (2, 4) if feed == "all" else (2,):
        folder = tmp_path / str(processes)
        done = launch(processes, "train", *chosen, "--run-dir", folder)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count(f"processes: {processes}") == 1
        ours, theirs = (tensors(path / "checkpoints" / "step_0000020") for path in (tmp_path / "1", folder))
        assert_close(theirs, ours, rtol=0, atol=1e-9)
        for one, other in zip(lines(tmp_path / "1"), lines(folder), strict=True):
            assert one.pop("moved") == {
                name: pytest.approx(each, abs=1e-9) for name, each in other.pop("moved").items()
            }
            assert one == pytest.approx(other, abs=1e-9)


@pytest.mark.slow
def test_two_processes_train_the_same_in_optional_ways(puzzles: Path, tmp_path: Path) -> None:
    """From the same weights, as above."""
    optional = [word for each in OPTIONAL for word in ("--set", each)]
    chosen = ("--puzzles", puzzles, *TRAIN, *optional, "--set", "train.precision=fp64", "--set", "train.log_every=1")
    chosen = (*chosen, "--set", "train.steps=20")
    assert launch(1, "train", *chosen, "--run-dir", tmp_path / "1").returncode == 0
    done = launch(2, "train", *chosen, "--run-dir", tmp_path / "2")
    assert done.returncode == 0, done.stderr[-2000:]
    for one, other in zip(lines(tmp_path / "1"), lines(tmp_path / "2"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-9), f"at step {one['step']}"
    ours, theirs = (tensors(tmp_path / name / "checkpoints" / "step_0000020") for name in ("1", "2"))
    assert_close(theirs, ours, rtol=0, atol=1e-9)


def test_processes_change_from_one_stretch_to_the_next(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes go on where one was stopped, and the other way round."""
    chosen = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--set", "train.precision=fp64")
    assert run(*chosen, "--run-dir", tmp_path / "alone") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(7, lambda: signal.raise_signal(signal.SIGTERM)))
        assert run(*chosen, "--run-dir", tmp_path / "run") == 143
    done = launch(2, *chosen, "--run-dir", tmp_path / "run")
    assert "resumed at step 7" in done.stdout, done.stderr[-2000:]
    for name in ("final", "step_0000017"):
        one, other = (tensors(tmp_path / run_name / "checkpoints" / name) for run_name in ("alone", "run"))
        assert_close(one, other, rtol=0, atol=1e-9)


def test_fewer_processes_than_launched_is_refused(puzzles: Path, tmp_path: Path) -> None:
    """As where a launcher starts one process although more were asked for."""
    words = [sys.executable, "-m", "pipeline", "train", "--puzzles", puzzles, *TRAIN, "--run-dir", tmp_path / "run"]
    environment = {**os.environ, "WORLD_SIZE": "2"}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == ExitCode.NO_DEVICE, done.stderr[-2000:]
    assert "2 processes were launched" in " ".join(done.stderr.split())


LOSE_ONE = """
import os, sys
from pipeline.__main__ import main
from solver.training.learner import Learner
step = Learner.step
def lost(learner, *given):
    if learner.steps == 6 and learner.processes.index == 1:
        os._exit(9)
    return step(learner, *given)
Learner.step = lost
main(sys.argv[1:])
"""


def test_a_lost_process_ends_in_words_and_nothing_is_lost(puzzles: Path, alone: Path, tmp_path: Path) -> None:
    chosen = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    (tmp_path / "lose.py").write_text(LOSE_ONE)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", tmp_path / "lose.py", *chosen]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode != 0
    assert "another process of this run was lost" in " ".join(done.stderr.split())
    assert run(*chosen) == 0
    assert "resumed at step 4" in (tmp_path / "run" / "log.txt").read_text()
    ours, theirs = (tensors(path / "checkpoints" / "final") for path in (alone, tmp_path / "run"))
    assert_close(theirs, ours, rtol=0, atol=1e-4)
