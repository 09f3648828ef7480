"""Checkpoints during training: nothing is lost by a kill, damage, a full disk or a missing process."""

import errno
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch.testing import assert_close

from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.checkpoints.manager import CheckpointManager
from pipeline.checkpoints.training_state import TrainingState
from tests.helpers.checkpoints import harm
from tests.helpers.paths import ROOT
from tests.helpers.training_states import KEYS, make_keeper, make_state

FILES = ["model", "average", "ids", "optimizer", "random", "slots_0000"]


def saved(keeper: CheckpointManager, *steps: int) -> list[TrainingState]:
    states = [make_state(step) for step in steps]
    for state in states:
        keeper.save(state)
    keeper.wait()
    return states


def newest_step(folder: Path, **options: object) -> int | None:
    keeper = make_keeper(folder, **options)
    keeper.tidy()
    state = keeper.newest()
    return None if state is None else state.step


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    [state] = saved(make_keeper(tmp_path), 7)
    loaded = make_keeper(tmp_path).newest()
    assert loaded is not None
    assert (loaded.step, loaded.plain) == (7, state.plain)
    assert_close(loaded.tensors, state.tensors, rtol=0, atol=0)
    assert_close(loaded.slots, state.slots, rtol=0, atol=0)
    assert make_keeper(tmp_path / "none").newest() is None


def test_prediction_can_read_it_too(tmp_path: Path) -> None:
    [state] = saved(make_keeper(tmp_path), 7)
    checkpoint = load_checkpoint(tmp_path / "step_0000007")
    assert (checkpoint.step, checkpoint.keys) == (7, KEYS)
    assert torch.equal(checkpoint.id_rows, state.tensors["ids"]["rows"])


def test_training_goes_on_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the state at the time, however late the file is."""
    begin = threading.Event()
    write = CheckpointManager._write
    monkeypatch.setattr(CheckpointManager, "_write", lambda *given: begin.wait(10) and write(*given))
    keeper, state = make_keeper(tmp_path), make_state(3)
    keeper.save(state)
    assert not (tmp_path / "step_0000003").exists()
    state.tensors["model"]["w"].zero_()
    state.slots[0]["cells"].zero_()
    begin.set()
    keeper.wait()
    loaded = make_keeper(tmp_path).newest()
    assert loaded is not None
    assert float(loaded.tensors["model"]["w"][0, 0]) == 1.0
    assert int(loaded.slots[0]["cells"].sum()) == 15


def test_the_last_two_stay(tmp_path: Path) -> None:
    saved(make_keeper(tmp_path), 1, 2, 3, 4)
    assert names(tmp_path) == ["step_0000003", "step_0000004"]


@pytest.mark.parametrize(
    "name", [*(f"{name}.safetensors" for name in FILES), "keys.json", "seen.json", "checkpoint.json"]
)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path: Path, name: str, damage: str) -> None:
    saved(make_keeper(tmp_path), 1, 2)
    file = tmp_path / "step_0000002" / name
    harm(file, damage)
    keeper = make_keeper(tmp_path)
    keeper.tidy()
    state = keeper.newest()
    assert state is not None
    assert state.step == 1
    assert [name in line and "the checkpoint before it is used" in line for line in keeper.said] == [True]  # type: ignore[attr-defined]
    saved(keeper, 2, 3)
    assert newest_step(tmp_path) == 3


def test_damage_of_the_same_step_may_come_again(tmp_path: Path) -> None:
    saved(make_keeper(tmp_path), 1)
    for _ in range(3):
        saved(make_keeper(tmp_path), 2)
        (tmp_path / "step_0000002" / "ids.safetensors").write_bytes(b"")
        assert newest_step(tmp_path) == 1
    assert names(tmp_path)[:3] == [f"damaged_step_0000002{end}" for end in ("", "_2", "_3")]


def test_a_file_that_the_disk_no_longer_reads_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(make_keeper(tmp_path), 1, 2)
    bad, read = tmp_path / "step_0000002" / "ids.safetensors", Path.open

    def open_file(path: Path, *arguments: Any, **options: Any) -> object:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_file)
    assert newest_step(tmp_path) == 1


def test_copies_that_a_user_put_there_are_left_alone(tmp_path: Path) -> None:
    saved(make_keeper(tmp_path), 1, 2)
    shutil.copytree(tmp_path / "step_0000001", tmp_path / "step_0000001_good")
    saved(make_keeper(tmp_path), 3, 10**7)
    assert names(tmp_path) == ["step_0000001_good", "step_0000003", "step_10000000"]
    assert newest_step(tmp_path) == 10**7


def test_when_all_are_damaged_nothing_is_thrown_away(tmp_path: Path) -> None:
    saved(make_keeper(tmp_path), 1, 2)
    for step in (1, 2):
        (tmp_path / f"step_000000{step}" / "ids.safetensors").unlink()
    with pytest.raises(ValueError, match="no checkpoint of this run is intact") as error:
        make_keeper(tmp_path).tidy()
    assert "step_0000001" in str(error.value)
    assert names(tmp_path) == ["step_0000001", "step_0000002"]


@pytest.mark.parametrize("stage", ["save_tensors", "seal_checkpoint", "sync", "put"])
def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    keeper = make_keeper(tmp_path)
    saved(keeper, 1)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if stage == "put":
        monkeypatch.setattr(CheckpointManager, "_put_in_place", fail)
    else:
        monkeypatch.setattr(f"pipeline.checkpoints.manager.{stage}", fail)
    keeper.save(make_state(2))
    with pytest.raises(ValueError, match="not enough disk space for a checkpoint") as error:
        keeper.wait()
    assert "of step 1, is intact" in str(error.value)
    monkeypatch.undo()
    assert names(tmp_path) == ["step_0000001"]
    assert newest_step(tmp_path) == 1


def test_a_quota_that_is_used_up_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)")

    monkeypatch.setattr("pipeline.checkpoints.tensor_files.save_file", fail)
    keeper = make_keeper(tmp_path)
    keeper.save(make_state(2))
    with pytest.raises(ValueError, match=r"not enough disk space for a checkpoint: .*quota.*there is no earlier one"):
        keeper.wait()


def test_free_space_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = make_keeper(tmp_path)
    saved(keeper, 1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10_000_000, 10_000_000))
    saved(keeper, 2)
    with pytest.raises(ValueError, match=r"it needs 84 MB, and 10 MB are free.* of step 2, is intact"):
        keeper.save(make_state(3, rows=10_000_000))
    assert newest_step(tmp_path) == 2


def test_the_slots_of_all_processes_need_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10_000_000, 10_000_000))
    state = make_state(3)
    state.slots[0]["z_h"] = torch.zeros(1_000_000)
    saved(make_keeper(tmp_path), 2)
    with pytest.raises(ValueError, match="it needs 13 MB, and 10 MB are free"):
        make_keeper(tmp_path, processes=3).save(state)


WRITER = """
import sys
from pathlib import Path
from tests.pipeline.checkpoints.test_manager import make_keeper, make_state
keeper = make_keeper(Path(sys.argv[1]))
keeper.tidy()
print("ready", flush=True)
for step in range(int(sys.argv[2]), 10**6):
    keeper.save(make_state(step, rows=2_000_000))
"""


@pytest.mark.slow
def test_a_process_killed_while_it_writes_loses_nothing_that_was_whole(tmp_path: Path) -> None:
    """16 MB a time, one after the other without a pause, so that every kill falls inside a write."""
    step, inside = 0, 0
    for number in range(3):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path), str(step + 1)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            while not list(tmp_path.glob("step_*")) or max(tmp_path.glob("step_*")).name <= f"step_{step:07d}":
                time.sleep(0.01)
            while not list(tmp_path.glob(".step_*.unfinished")):
                time.sleep(0.001)
            time.sleep(0.01 * number)
            writer.kill()
        inside += bool(list(tmp_path.glob(".*.unfinished")))
        found = newest_step(tmp_path)
        assert found is not None
        assert found > step
        assert not list(tmp_path.glob(".*.unfinished"))
        step = found
    assert inside, "a kill fell inside a write"


def test_each_process_writes_its_own_slots(tmp_path: Path) -> None:
    keepers = [make_keeper(tmp_path, process=index, processes=3) for index in range(3)]
    states = [make_state(5) for _ in keepers]
    for index in (0, 2, 1):
        states[index].slots[0]["mine"] = torch.tensor([index])
        keepers[index].save(states[index])
        time.sleep(0.05)
    for keeper in keepers:
        keeper.wait()
    loaded = keepers[1].newest()
    assert loaded is not None
    assert [int(part["mine"]) for part in loaded.slots] == [0, 1, 2]


def test_a_process_that_does_not_write_is_named(tmp_path: Path) -> None:
    keepers = [make_keeper(tmp_path, process=index, processes=3, patience=0.2) for index in range(2)]
    for keeper in keepers:
        keeper.save(make_state(5))
    keepers[1].wait()
    assert keepers[1].last_step is None, "its own part is written, the checkpoint is not"
    with pytest.raises(ValueError, match=r"process 2 of 3 has not written its slots.*same RUN folder"):
        keepers[0].wait()
    assert newest_step(tmp_path) is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_others_wait_on_disk_for_the_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The next save, and the end of training, begin when the first process has written the last checkpoint."""
    begin, complete = threading.Event(), CheckpointManager._complete

    def late(keeper: CheckpointManager, *given: Any) -> None:
        begin.wait(10)
        if fails:
            raise OSError(errno.EIO, "Input/output error")
        complete(keeper, *given)

    monkeypatch.setattr(CheckpointManager, "_complete", late)
    first, second, third = (make_keeper(tmp_path, process=number, processes=3) for number in range(3))
    for keeper in (first, second, third):
        keeper.save(make_state(5))
    waits = [threading.Thread(target=work) for work in (second.wait_for_all, lambda: third.save(make_state(9)))]
    for thread in waits:
        thread.start()
    waits[0].join(0.3)
    assert all(thread.is_alive() for thread in waits)
    begin.set()
    for thread in waits:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waits)
    assert (tmp_path / "step_0000005").exists() != fails


def test_the_others_do_not_wait_for_a_checkpoint_that_is_given_up_before_their_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their part makes the folder again that the first process has removed; the next run removes it and the mark."""
    first, second = (make_keeper(tmp_path, process=number, processes=2) for number in range(2))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(first, "_complete", fail)
    first.save(make_state(5))
    with pytest.raises(OSError, match="Input/output error"):
        first.wait()
    second.save(make_state(5))
    waiting = threading.Thread(target=second.wait_for_all, daemon=True)
    waiting.start()
    waiting.join(10)
    assert not waiting.is_alive()
    first.tidy()
    assert not list(tmp_path.iterdir())


def test_slots_that_a_killed_run_left_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    late = make_keeper(tmp_path, process=1, processes=2)
    saved(late, 5)
    first = make_keeper(tmp_path, processes=2, patience=0.2)
    first.tidy()
    first.save(make_state(5))
    with pytest.raises(ValueError, match="process 1 of 2 has not written its slots"):
        first.wait()


def test_a_step_that_is_there_already_is_never_taken_away(tmp_path: Path) -> None:
    saved(make_keeper(tmp_path), 1)
    before = (tmp_path / "step_0000001" / "checkpoint.json").stat().st_mtime_ns
    saved(make_keeper(tmp_path), 1)
    assert (tmp_path / "step_0000001" / "checkpoint.json").stat().st_mtime_ns == before
    (tmp_path / "step_0000001" / "ids.safetensors").unlink()
    saved(make_keeper(tmp_path), 1)
    assert newest_step(tmp_path) == 1
