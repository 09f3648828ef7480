"""The restart policy: what is changed after each kind of failure, and when a stage is given up."""

import json
import os
from pathlib import Path

import pytest

from pipeline import worker
from pipeline.checkpoints.compilation import DISABLE
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
COMPILATION = ChildResult(ExitCode.COMPILATION, "ended")
OTHER = ChildResult(ExitCode.BUG, "ended", ("RuntimeError: CUDA error: unspecified launch failure",))
LAUNCHED = ChildResult(137, "ended", ("train 3/9", "error: process 1 ended with exit code -9"))


@pytest.fixture
def policy(tmp_path: Path) -> RestartPolicy:
    config = override(smoke(), {"train.batch_size": 16}).model_copy(
        update={"unattended": UnattendedSettings(restarts=4)}
    )
    incidents: list[str] = []
    policy = RestartPolicy(config, RunFolder(tmp_path / "run", config), incidents.append)
    policy.incidents = incidents  # type: ignore[attr-defined]
    return policy


def step(policy: RestartPolicy, number: int) -> None:
    with (policy.run.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": number}) + "\n")


def test_a_killed_stage_resumes_with_the_same_options(policy: RestartPolicy) -> None:
    policy.record_failure("train", KILLED)
    assert policy.may_start("train")
    assert policy.options("train") == []


def test_out_of_memory_halves_what_is_computed_at_once(policy: RestartPolicy) -> None:
    policy.record_failure("train", NO_MEMORY)
    assert policy.options("train") == ["--micro-batch", "8"]
    policy.record_failure("train", NO_MEMORY)
    assert policy.options("train") == ["--micro-batch", "4"]
    policy.record_failure("predict", NO_MEMORY)
    assert policy.options("predict") == ["--boards", "2"]


def test_prediction_halves_the_boards_that_its_parts_name(policy: RestartPolicy, tmp_path: Path) -> None:
    (tmp_path / "parts.json").write_text('{"boards": 96}')
    policy.begin_pass(tmp_path)
    policy.record_failure("predict", NO_MEMORY)
    assert policy.options("predict") == ["--boards", "48"]


def test_every_pass_has_restarts_of_its_own(policy: RestartPolicy, tmp_path: Path) -> None:
    for _ in range(5):
        policy.record_failure("predict", OTHER)
    assert not policy.may_start("predict")
    policy.begin_pass(tmp_path)
    assert policy.may_start("predict")


def test_a_process_killed_under_a_launcher_counts_as_killed(policy: RestartPolicy) -> None:
    policy.record_failure("train", LAUNCHED)
    policy.record_failure("train", LAUNCHED)
    assert policy.options("train") == ["--micro-batch", "8"]
    assert "killed" in policy.incidents[0]  # type: ignore[attr-defined]


def test_killed_twice_without_a_step_is_taken_for_out_of_memory(policy: RestartPolicy) -> None:
    # The system's out-of-memory killer leaves no message.
    policy.record_failure("train", KILLED)
    step(policy, 5)
    policy.record_failure("train", KILLED)
    assert policy.options("train") == []
    policy.record_failure("train", KILLED)
    assert policy.options("train") == ["--micro-batch", "8"]


def test_an_unreadable_checkpoint_twice_starts_from_scratch_once(policy: RestartPolicy) -> None:
    policy.record_failure("train", OTHER)
    policy.record_failure("train", OTHER)
    assert policy.options("train") == [], "another failure is not due to the checkpoints"
    policy.record_failure("train", DAMAGED)
    assert policy.options("train") == []
    policy.record_failure("train", DAMAGED)
    assert policy.options("train") == ["--from-scratch"]
    assert policy.options("train") == [], "one start only, or no checkpoint would ever be resumed"


def test_without_a_device_for_each_process_there_is_one_process(policy: RestartPolicy) -> None:
    policy.record_failure("train", NO_DEVICE)
    assert policy.options("train") == []
    assert policy.process_count("train", 4) == 1


def test_after_a_failure_of_the_compiler_nothing_is_compiled(policy: RestartPolicy) -> None:
    policy.record_failure("train", COMPILATION)
    assert policy.options("train") == policy.options("predict") == ["--eager"]
    policy.record_failure("train", NO_MEMORY)
    assert policy.options("train") == ["--micro-batch", "8", "--eager"]


def test_a_stage_that_is_told_so_compiles_nothing(policy: RestartPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list[str | None]()
    monkeypatch.setenv(DISABLE, "")
    monkeypatch.setattr(worker, "train_stage", lambda *_: found.append(os.environ.get(DISABLE)))
    words = ["train", str(policy.run.path), "--until", "0"]
    for options in (policy.options("train"), ["--eager"]):
        worker.main([*words, *options])
    assert found == ["", "1"]


def test_a_full_disk_is_cleared_of_files_that_the_run_does_not_need(policy: RestartPolicy) -> None:
    for name in ("step_0000010", "step_0000020", "final", ".step_0000030.unfinished"):
        (policy.run.checkpoints / name).mkdir(parents=True)
    policy.record_failure("train", NO_SPACE)
    assert sorted(path.name for path in policy.run.checkpoints.iterdir()) == ["final", "step_0000020"]


def test_a_stage_is_given_up_after_a_last_start_in_one_process(policy: RestartPolicy) -> None:
    for number in range(4):
        assert policy.process_count("train", 4) == 4
        policy.record_failure("train", KILLED)
        step(policy, number)
    assert policy.process_count("train", 4) == 1
    assert policy.may_start("train")
    policy.record_failure("train", KILLED)
    assert not policy.may_start("train")
    assert policy.may_start("predict")
    assert "given up" in policy.incidents[-1]  # type: ignore[attr-defined]
