"""A run that was stopped, killed or moved resumes with the same results as an uninterrupted one."""

import json
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from pipeline import worker
from pipeline.checkpoints import manager
from pipeline.checkpoints.manager import CheckpointManager
from pipeline.checkpoints.training_state import state_errors
from pipeline.runtime.exit_codes import CheckpointError, ExitCode
from pipeline.runtime.stop_signals import StopSignals
from solver.training.learner import Learner
from tests.helpers.commands import run
from tests.helpers.resume import OPTIONAL, STEPS, TRAIN, Crash, after, capture_learners, crash, lines, same_run, tensors


def test_a_checkpoint_that_takes_longer_than_a_step_may_is_written_after_a_signal(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process would be ended in the middle of the checkpoint otherwise."""
    seal = manager.seal_checkpoint

    def seal_slowly(*arguments: object, **more: object) -> None:
        time.sleep(1.5)
        seal(*arguments, **more)  # type: ignore[arg-type]

    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.train.SECONDS_TO_END", 0.5)
        patch.setattr(manager, "seal_checkpoint", seal_slowly)
        patch.setattr(Learner, "step", after(7, lambda: signal.raise_signal(signal.SIGTERM)))
        assert run(*command) == 128 + signal.SIGTERM
    capsys.readouterr()
    assert run(*command) == 0
    assert "resumed at step 7" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_with_a_checkpoint(
    puzzles: Path,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(7, lambda: signal.raise_signal(number)))
        assert run(*command) == 128 + number
    assert "stopped by a signal at step 7 of 17" in capsys.readouterr().out
    assert not (tmp_path / "run" / "checkpoints" / "final").exists()
    assert run(*command) == 0
    assert "resumed at step 7" in capsys.readouterr().out
    same_run(alone, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "signals are as they were"


def test_only_a_second_ctrl_c_is_not_waited_for() -> None:
    with StopSignals().watched() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            assert stop.received == signal.SIGTERM, "a launcher and the system may both send one"
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_a_crash_between_checkpoints_changes_nothing(
    puzzles: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    for step, expected in ((2, None), (11, None), (13, 8)):
        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", after(step, crash))
            with pytest.raises(Crash):
                run(*command)
        assert (f"resumed at step {expected}" in capsys.readouterr().out) == (expected is not None)
    assert run(*command) == 0
    assert "resumed at step 12" in capsys.readouterr().out
    same_run(alone, tmp_path / "run")


def test_optional_ways_of_learning_go_on_after_a_crash(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, *(word for each in OPTIONAL for word in ("--set", each)))
    assert run(*chosen, "--run-dir", tmp_path / "alone") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(11, crash))
        with pytest.raises(Crash):
            run(*chosen, "--run-dir", tmp_path / "run")
    state = load_file(tmp_path / "run" / "checkpoints" / "step_0000008" / "id_optimizer.safetensors")
    assert state.keys() == {"rows/mean", "rows/square", "rows/steps"}
    assert run(*chosen, "--run-dir", tmp_path / "run") == 0
    same_run(tmp_path / "alone", tmp_path / "run")


def test_a_run_goes_on_that_is_older_than_a_setting(
    puzzles: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(5, crash))
        with pytest.raises(Crash):
            run(*command)
    file = tmp_path / "run" / "config.json"
    values = json.loads(file.read_text())
    for name in ("loss", "schedule", "id_optimizer"):
        del values["train"][name]
    file.write_text(json.dumps(values))
    assert run(*command) == 0
    same_run(alone, tmp_path / "run")


def test_a_crash_before_the_final_checkpoint_changes_nothing(
    puzzles: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.trainer.save_checkpoint", lambda *_: crash())
        with pytest.raises(Crash):
            run(*command)
    assert not (tmp_path / "run" / "checkpoints" / "final").exists()
    assert run(*command) == 0
    same_run(alone, tmp_path / "run")
    assert [row["step"] for row in lines(tmp_path / "run")] == [5, 10, 15, 17]


def test_a_damaged_end_is_made_again(
    puzzles: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    assert run(*command) == 0
    (tmp_path / "run" / "checkpoints" / "final" / "ids.safetensors").unlink()
    capsys.readouterr()
    assert run(*command) == 0
    assert "ids.safetensors is missing; it is made again" in capsys.readouterr().out
    same_run(alone, tmp_path / "run")


def test_a_damaged_checkpoint_is_passed_over(
    puzzles: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(10, crash))
        with pytest.raises(Crash):
            run(*command)
    (tmp_path / "run" / "checkpoints" / "step_0000008" / "optimizer.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert run(*command) == 0
    said = capsys.readouterr().out
    assert "step_0000008/optimizer.safetensors is missing, cut short or altered" in said
    assert "resumed at step 4" in said
    same_run(alone, tmp_path / "run")


def test_the_end_of_a_budget_writes_a_checkpoint_and_more_budget_goes_on(
    puzzles: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    left = iter([1.0] * 6 + [0.0])
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.time_budget.Budget.left", lambda *_: next(left))
        assert run(*command, "--budget", "10m") == 0
    assert "the budget ended training at step 6 of 17" in capsys.readouterr().out
    assert (tmp_path / "run" / "checkpoints" / "final" / "average.safetensors").exists()
    assert run(*command, "--budget", "1h") == 0
    said = capsys.readouterr().out
    assert "resumed at step 6" in said
    assert "budget: 600.0 -> 3600.0" in said
    same_run(alone, tmp_path / "run")
    assert run(*command, "--budget", "1h") == 0
    assert "training was already done" in capsys.readouterr().out


def test_another_puzzle_set_is_not_taken_for_the_same(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, chosen = tmp_path / "set", ("--score", "arc-agi-1/training", "--max-side", "4", "--augmentations", "3")
    assert run("build", *chosen, "--limit", "6", "--out", copy) == 0
    command = ("train", "--puzzles", copy, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(5, crash))
        with pytest.raises(Crash):
            run(*command)
    copy.rename(tmp_path / "old")
    assert run("build", *chosen, "--limit", "7", "--out", copy) == 0
    assert run(*command) == 2
    assert "started with another puzzle set" in " ".join(capsys.readouterr().err.split())


def test_what_is_not_finite_stops_the_run_and_keeps_the_batch(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learners = capture_learners(monkeypatch)

    def spoil() -> None:
        with torch.no_grad():
            learners[0].model.cell_head.weight[3] = torch.nan

    def put_in_place_late(keeper: CheckpointManager, *places: Path) -> None:
        time.sleep(0.5)  # the step that fails is made meanwhile
        put_in_place(keeper, *places)

    put_in_place = CheckpointManager._put_in_place
    monkeypatch.setattr(CheckpointManager, "_put_in_place", put_in_place_late)
    monkeypatch.setattr(Learner, "step", after(9, spoil))
    assert run("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "step 10 is not finite" in said
    assert "the last checkpoint, of step 8, is intact" in said
    kept = tmp_path / "run" / "failed_step_0000010" / "process_0"
    slots, weights = load_file(kept / "slots.safetensors"), load_file(kept / "model.safetensors")
    assert len(slots["tokens"]) == 16
    assert torch.isnan(weights["cell_head.weight"][3]).all()


def test_out_of_memory_ends_in_words_where_nothing_smaller_is_left(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr("solver.model.model.RecursiveModel.forward", fail)
    assert run("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run") == ExitCode.OUT_OF_MEMORY
    assert "with nothing left to split (CUDA out of memory" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_outside_of_steps_ends_in_words(
    puzzles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.training.setup.prepare_model", fail)
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    assert run(*command) == ExitCode.OUT_OF_MEMORY
    reason = str(error) or "MemoryError"
    assert f"error: out of memory ({reason}); free memory, use more" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("pipeline.worker._run", fail)
    with pytest.raises(SystemExit, match=str(int(ExitCode.OUT_OF_MEMORY))):
        worker.main(["solve", str(tmp_path / "run")])
    assert f"error: out of memory ({reason}); free memory" in " ".join(capsys.readouterr().err.split())


def test_out_of_memory_while_a_checkpoint_is_loaded_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError), state_errors(tmp_path, 3):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(CheckpointError, match="the training state of step 3 does not fit"), state_errors(tmp_path, 3):
        raise RuntimeError("shapes differ")


def test_a_full_disk_ends_in_words_with_the_last_checkpoint_whole(
    puzzles: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", tmp_path / "run")
    check = CheckpointManager._check_space

    def no_room(keeper: CheckpointManager, groups: list) -> None:
        if keeper.last_step == 8:
            raise keeper._no_space("it needs 9 MB, and 1 MB are free")
        check(keeper, groups)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "_check_space", no_room)
        assert run(*command) == ExitCode.DISK_FULL
    assert "the last one, of step 8, is intact" in " ".join(capsys.readouterr().err.split())
    assert run(*command) == 0
    same_run(alone, tmp_path / "run")


def test_a_run_grows_onto_other_tasks(alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    larger, chosen = tmp_path / "set", ("--score", "arc-agi-1/training", "--max-side", "4", "--augmentations", "3")
    assert run("build", *chosen, "--limit", "8", "--out", larger) == 0
    final = alone / "checkpoints" / "final"
    grown = ("train", "--puzzles", larger, *TRAIN, "--set", "train.steps=1", "--set", "train.id_lr=1e-9")
    assert run(*grown, "--checkpoint", final, "--run-dir", tmp_path / "run") == 0
    assert "ID rows: 24 matched by key, 8 new ones start at the mean" in " ".join(capsys.readouterr().out.split())
    before, rows = tensors(final)["ids/rows"], tensors(tmp_path / "run" / "checkpoints" / "final")["ids/rows"]
    found = (rows[:, None] - before[None]).abs().amax(2).min(1).values < 1e-6
    assert int(found.sum()) == 24
    assert_close(rows[~found], before.mean(0).expand(8, -1), rtol=0, atol=1e-6)
