"""What is done after a stage has died, and for how long."""

import json
from pathlib import Path

import pytest

from pipeline.config.run_config import UnattendedSettings, override
from pipeline.kaggle.child_process import ChildResult
from pipeline.kaggle.restart_policy import RestartPolicy
from pipeline.recipes.small import smoke
from pipeline.runtime.exit_codes import ExitCode
from pipeline.runtime.run_folder import RunFolder

KILLED = ChildResult(-9, "ended", ("train 3/9",))
NO_MEMORY = ChildResult(ExitCode.OUT_OF_MEMORY, "ended")
NO_SPACE = ChildResult(ExitCode.DISK_FULL, "ended")
DAMAGED = ChildResult(ExitCode.UNREADABLE_CHECKPOINT, "ended")
NO_DEVICE = ChildResult(ExitCode.NO_DEVICE, "ended")
OTHER = ChildResult(ExitCode.BUG, "ended", ("RuntimeError: CUDA error: unspecified launch failure",))
LAUNCHED = ChildResult(137, "ended", ("train 3/9", "error: process 1 ended with exit code -9"))


@pytest.fixture
def recovery(tmp_path: Path) -> RestartPolicy:
    config = override(smoke(), {"train.batch_size": 16}).model_copy(
        update={"unattended": UnattendedSettings(restarts=4)}
    )
    said: list[str] = []
    made = RestartPolicy(config, RunFolder(tmp_path / "run", config), said.append)
    made.said = said  # type: ignore[attr-defined]
    return made


def step(recovery: RestartPolicy, number: int) -> None:
    with (recovery.run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": number}) + "\n")


def test_a_killed_stage_goes_on_as_it_was(recovery: RestartPolicy) -> None:
    recovery.learn("train", KILLED)
    assert recovery.may("train")
    assert recovery.words("train") == []


def test_out_of_memory_halves_what_is_computed_at_once(recovery: RestartPolicy) -> None:
    recovery.learn("train", NO_MEMORY)
    assert recovery.words("train") == ["--micro-batch", "8"]
    recovery.learn("train", NO_MEMORY)
    assert recovery.words("train") == ["--micro-batch", "4"]
    recovery.learn("predict", NO_MEMORY)
    assert recovery.words("predict") == ["--boards", "2"]


def test_prediction_halves_what_it_had_found_to_fit(recovery: RestartPolicy, tmp_path: Path) -> None:
    (tmp_path / "parts.json").write_text('{"boards": 96}')
    recovery.begin_pass(tmp_path)
    recovery.learn("predict", NO_MEMORY)
    assert recovery.words("predict") == ["--boards", "48"]


def test_every_pass_has_tries_of_its_own(recovery: RestartPolicy, tmp_path: Path) -> None:
    for _ in range(5):
        recovery.learn("predict", OTHER)
    assert not recovery.may("predict")
    recovery.begin_pass(tmp_path)
    assert recovery.may("predict")


def test_a_process_killed_under_a_launcher_is_understood(recovery: RestartPolicy) -> None:
    recovery.learn("train", LAUNCHED)
    recovery.learn("train", LAUNCHED)
    assert recovery.words("train") == ["--micro-batch", "8"]
    assert "killed" in recovery.said[0]  # type: ignore[attr-defined]


def test_killed_twice_without_a_step_is_taken_for_out_of_memory(recovery: RestartPolicy) -> None:
    # The system's own killer leaves no words.
    recovery.learn("train", KILLED)
    step(recovery, 5)
    recovery.learn("train", KILLED)
    assert recovery.words("train") == []
    recovery.learn("train", KILLED)
    assert recovery.words("train") == ["--micro-batch", "8"]


def test_the_same_failure_twice_begins_anew_once(recovery: RestartPolicy) -> None:
    recovery.learn("train", OTHER)
    recovery.learn("train", OTHER)
    assert recovery.words("train") == [], "the checkpoints are not to blame"
    recovery.learn("train", DAMAGED)
    assert recovery.words("train") == []
    recovery.learn("train", DAMAGED)
    assert recovery.words("train") == ["--anew"]
    assert recovery.words("train") == [], "only that start, or nothing would ever be kept"


def test_without_a_device_for_each_process_there_is_one_process(recovery: RestartPolicy) -> None:
    recovery.learn("train", NO_DEVICE)
    assert recovery.processes("train", 4) == 1


def test_a_full_disk_is_cleared_of_what_can_be_spared(recovery: RestartPolicy) -> None:
    for name in ("step_0000010", "step_0000020", "final", ".step_0000030.unfinished"):
        (recovery.run.checkpoints / name).mkdir(parents=True)
    recovery.learn("train", NO_SPACE)
    assert sorted(path.name for path in recovery.run.checkpoints.iterdir()) == ["final", "step_0000020"]


def test_it_is_given_up_in_the_end_after_a_try_in_one_process(recovery: RestartPolicy) -> None:
    for number in range(4):
        assert recovery.processes("train", 4) == 4
        recovery.learn("train", KILLED)
        step(recovery, number)
    assert recovery.processes("train", 4) == 1
    assert recovery.may("train")
    recovery.learn("train", KILLED)
    assert not recovery.may("train")
    assert recovery.may("predict")
    assert "given up" in recovery.said[-1]  # type: ignore[attr-defined]
