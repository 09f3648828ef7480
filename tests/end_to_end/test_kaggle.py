"""The simulated Kaggle is what it says: the real files, no network, a judge that notices, faults that take effect."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from augment import Task
from benchmarks import bench_kaggle
from pipeline.config.run_config import override
from pipeline.recipes.registry import RECIPES
from submissions.submission_file import placeholder_submission, write_submission
from tests.kaggle_simulation.injected_faults import (
    FAULTS,
    Fault,
    Going,
    break_task,
    corrupt_checkpoint,
    fill_disk,
    kill_trainer,
    stop_predictor,
    take_memory,
    truncate_backbone,
)
from tests.kaggle_simulation.layout import COMPETITION, hidden_tasks, lay_out, learnable_tasks
from tests.kaggle_simulation.sandbox import Sandbox, namespaces_allowed
from tests.kaggle_simulation.simulation import SETTINGS, Outcome, follow
from tests.kaggle_simulation.watch import FIRST_WITHIN, Look, Watch

needs_namespaces = pytest.mark.skipif(not namespaces_allowed(), reason="this machine allows no namespaces")
WAYS = [pytest.param(True, marks=needs_namespaces), False]
REAL = {
    "arc-agi_training_challenges.json": "779eaba8",
    "arc-agi_evaluation_challenges.json": "e7c62a4b",
    "arc-agi_test_challenges.json": "232264c5",
    "sample_submission.json": "6b372dce",
}
"""Files of the competition, and how their SHA-256 begins."""


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return learnable_tasks()


def test_its_settings_are_those_of_the_recipe() -> None:
    assert override(RECIPES["kaggle"](), SETTINGS).train.log_every == 10


def test_the_input_is_byte_for_byte_the_real_one(tmp_path: Path) -> None:
    kaggle = lay_out(tmp_path / "kaggle")
    folder = kaggle.input / COMPETITION
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8] for name in REAL}
    assert found == REAL
    assert len(list(folder.iterdir())) == 6
    assert len(kaggle.tasks) == 240


def test_the_scored_run_meets_hidden_tasks_and_no_outputs(tmp_path: Path) -> None:
    hidden = hidden_tasks()
    kaggle = lay_out(tmp_path / "kaggle", hidden)
    challenges = json.loads(kaggle.challenges.read_text())
    assert len(challenges) == 120 + 25
    assert all(list(pair) == ["input"] for task in challenges.values() for pair in task["test"])
    sample = json.loads(kaggle.challenges.with_name("sample_submission.json").read_text())
    assert {task: len(entries) for task, entries in sample.items()} == {task.id: len(task.tests) for task in hidden}
    training = kaggle.challenges.with_name("arc-agi_training_challenges.json")
    assert hashlib.sha256(training.read_bytes()).hexdigest().startswith(REAL[training.name]), "only test files change"


def test_the_scored_run_differs_from_the_commit_run_by_its_environment(tmp_path: Path, tasks: list[Task]) -> None:
    kaggle = lay_out(tmp_path / "kaggle", tasks[:1])
    commit, rerun = (kaggle.environment(each, budget="60s") for each in (False, True))
    assert set(rerun) - set(commit) == {"KAGGLE_IS_COMPETITION_RERUN"}
    assert commit["ARC_TRM_BUDGET"] == "60s"


def run_inside(sandbox: Sandbox, script: str) -> str:
    """What a Python script says in the sandbox."""
    said = sandbox.kaggle.root / "said.txt"
    code = sandbox.start(["-c", script], sandbox.kaggle.environment(rerun=True), said).wait(timeout=30)
    assert code == 0, said.read_text()
    return said.read_text()


CONNECT = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=5)
print("loopback")
for address in (("192.0.2.1", 80), ("1.1.1.1", 443)):
    try:
        socket.create_connection(address, timeout=5)
    except OSError as error:
        print(error.errno)
"""


@pytest.mark.parametrize("namespaces", WAYS)
def test_the_network_is_cut_and_loopback_is_up(tmp_path: Path, tasks: list[Task], namespaces: bool) -> None:
    with Sandbox(lay_out(tmp_path / "kaggle", tasks[:1]), namespaces=namespaces) as sandbox:
        assert run_inside(sandbox, CONNECT).split() == ["loopback", "101", "101"], "101: the network is unreachable"


WRITE = """
import os, sys
for file, size in ((sys.argv[1], 1), (sys.argv[2], 1000), (sys.argv[2], 2_000_000)):
    try:
        with open(file, "wb") as stream:
            stream.write(bytes(size))
        print("written")
    except OSError as error:
        print(error.errno)
"""


@needs_namespaces
def test_the_input_cannot_be_written_and_the_disk_is_small(tmp_path: Path, tasks: list[Task]) -> None:
    kaggle = lay_out(tmp_path / "kaggle", tasks[:1])
    with Sandbox(kaggle, disk=1_000_000) as sandbox:
        files = f"import sys; sys.argv[1:] = [{str(kaggle.challenges)!r}, {str(kaggle.scratch / 'file')!r}]"
        assert run_inside(sandbox, f"{files}\n{WRITE}").split() == ["30", "written", "28"], "read-only; no space"
        assert sandbox.outside(kaggle.scratch / "file").exists()
        assert not (kaggle.scratch / "file").exists(), "it lies on the sandbox's own disk"


def test_looks_notice_what_is_right_and_what_is_wrong(tmp_path: Path, tasks: list[Task]) -> None:
    file, submission = tmp_path / "submission.json", placeholder_submission(tasks)
    watch = Watch([file], tasks, tasks)
    watch.look(1.0)
    assert not watch.looks, "it is not due yet"
    write_submission(file, submission)
    watch.look(2.0)
    right = tasks[0].tests[0].output
    assert right is not None
    submission[tasks[0].id][0] = {"attempt_1": [[0]], "attempt_2": right.tolist()}
    write_submission(file, submission)
    watch.look(3.0)
    file.write_text(file.read_text()[:-5])
    watch.look(4.0)
    del submission[tasks[1].id]
    write_submission(file, submission)
    watch.look(5.0)
    file.unlink()
    watch.look(6.0)
    assert [(look.answered, look.solved, bool(look.problem)) for look in watch.looks] == [
        (0, 0, False), (1, 1, False), (0, 0, True), (0, 0, True), (0, 0, True),
    ]  # fmt: skip
    assert tasks[1].id in watch.looks[3].problem


def test_a_submission_that_never_comes_is_noticed(tmp_path: Path, tasks: list[Task]) -> None:
    watch = Watch([tmp_path / "submission.json"], tasks, tasks)
    watch.look(FIRST_WITHIN + 0.1)
    assert watch.last.problem


GOOD = Outcome("", 60.0, exit=0, used=50.0, looks=[Look(1.0, "", 0, 0), Look(50.0, "", 9, 5)], solved=5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, ""),
        ({"exit": 2}, "exit code 2"),
        ({"exit": None}, "exit code None"),
        ({"used": 57.5}, "2.5 s of the budget were left over"),
        ({"budget": 1000.0, "used": 981.0}, "19.0 s of the budget were left over, less than 20.0"),
        ({"looks": [Look(11.0, "", 0, 0)]}, "after 11.0 s"),
        ({"looks": []}, "after inf s"),
        ({"looks": [Look(1.0, "", 0, 0), Look(2.0, "cut short", 0, 0)]}, "not valid at 1 looks"),
        ({"solved_then": 6, "fault_at": 9.0}, "5 solved, and 6 before the fault"),
        ({"solved_then": 6, "fault_at": 9.0, "passed_since": True}, ""),
        ({"struck": False}, "never came"),
        ({"left": 1}, "left behind"),
        ({"unfelt": "killed"}, "it does not say 'killed'"),
        ({"incidents": ["a checkpoint was damaged"]}, ""),
    ],
)
def test_every_promise_is_checked(change: dict, complaint: str) -> None:
    found = replace(GOOD, **change).complaints()
    assert complaint in "\n".join(found)
    assert bool(found) == bool(complaint)


STAGE = """
import time
print("ready", flush=True)
time.sleep(0.3)
while True:
    time.sleep(0.05)
    block = bytes(50_000_000)
"""
CONDUCTOR = """
import subprocess, sys
from pathlib import Path
folder, script, stage = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
child = subprocess.Popen(
    [sys.executable, "-c", script, "pipeline.worker", *stage], stdout=subprocess.PIPE, start_new_session=True
)
child.stdout.readline()
(folder / "metrics.jsonl").write_text("{}")
(folder / "submission.json").write_text('{"t": [{"attempt_1": [[1]], "attempt_2": [[0]]}]}')
(folder / "code").write_text(str(child.wait()))
"""
"""A process whose child has a stage's command line and wants memory again and again; its exit code is written down."""


class Fake:
    """A run that consists of one stage."""

    def __init__(self, folder: Path, stage: list[str]):
        self.folder = folder
        (folder / "passes" / "1").mkdir(parents=True)
        for name in ("checkpoints/step_0000010", "checkpoints/step_0000020", "checkpoints/final"):
            (folder / name).mkdir(parents=True)
            (folder / name / "model.safetensors").write_bytes(bytes(100))
        words = [sys.executable, "-c", CONDUCTOR, str(folder), STAGE, *stage]
        self.process = subprocess.Popen(words, start_new_session=True)
        self.going = Going(psutil.Process(self.process.pid), folder, folder)

    def wait_until(self, moment: str) -> None:
        end = time.monotonic() + 10
        while not getattr(self.going, moment)():
            assert time.monotonic() < end
            time.sleep(0.02)

    def code_of_child(self) -> int:
        self.process.wait(timeout=10)
        return int((self.folder / "code").read_text())


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Fake]:
    yield from fake(tmp_path, ["train"], "trains_on")


@pytest.fixture
def predictor(tmp_path: Path) -> Iterator[Fake]:
    yield from fake(tmp_path, ["predict", "--out", "/run/predictions"], "predicts_last")


def fake(folder: Path, stage: list[str], moment: str) -> Iterator[Fake]:
    made = Fake(folder / "run", stage)
    family: list[psutil.Process] = []
    try:
        made.wait_until(moment)
        family = made.going.descendants()
        yield made
    finally:
        for process in (*family, made.process):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        made.process.wait()


def test_the_trainer_is_killed_and_nothing_else(trainer: Fake) -> None:
    assert not trainer.going.predicts_last()
    kill_trainer(trainer.going)
    assert trainer.code_of_child() == -9
    assert trainer.process.returncode == 0
    with pytest.raises(psutil.NoSuchProcess):
        trainer.going.stage("train")


def test_memory_is_out(trainer: Fake) -> None:
    take_memory(trainer.going)
    assert trainer.code_of_child() == 1, "MemoryError"


def test_the_newest_checkpoints_are_corrupt(trainer: Fake) -> None:
    corrupt_checkpoint(trainer.going)
    found = {file.parent.name: file.read_bytes() for file in trainer.folder.rglob("*.safetensors")}
    flipped = bytes(50) + b"\xff" * 16 + bytes(34)
    assert found == {"step_0000010": bytes(100), "step_0000020": flipped, "final": flipped}
    assert trainer.code_of_child() == -9


def test_the_last_predictor_stands_still(predictor: Fake) -> None:
    assert not predictor.going.trains_on()
    stop_predictor(predictor.going)
    time.sleep(0.1)
    assert predictor.going.stage("predict", "predictions").status() == psutil.STATUS_STOPPED


@needs_namespaces
def test_not_a_byte_is_left(tmp_path: Path, tasks: list[Task]) -> None:
    kaggle = lay_out(tmp_path / "kaggle", tasks[:1])
    with Sandbox(kaggle, disk=3_000_000) as sandbox:
        disk = sandbox.outside(kaggle.scratch)
        fill_disk(Going(psutil.Process(), disk / "run", disk))
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_bytes(bytes(10_000))


def test_what_is_attached_and_asked_is_damaged_before_the_start(tmp_path: Path, tasks: list[Task]) -> None:
    backbone = tmp_path / "backbone"
    backbone.mkdir()
    (backbone / "model.safetensors").write_bytes(bytes(100))
    kaggle = lay_out(tmp_path / "kaggle", tasks, backbone)
    truncate_backbone(kaggle)
    break_task(kaggle)
    assert (kaggle.backbone / "model.safetensors").stat().st_size == 50
    assert (backbone / "model.safetensors").stat().st_size == 100, "only the copy"
    changed = json.loads(kaggle.challenges.read_text())
    assert changed.keys() == {task.id for task in tasks}
    assert changed[tasks[12].id]["train"][0]["input"] == [[1, 2, 3], [4]]


def test_a_run_is_followed_hurt_once_and_cleared_away(tmp_path: Path, tasks: list[Task]) -> None:
    task = replace(tasks[0], id="t", tests=tasks[0].tests[:1])
    made, outcome = Fake(tmp_path / "run", ["train"]), Outcome("trainer killed", 20.0)
    follow(
        made.process,
        made.going,
        Watch([made.folder / "submission.json"], [task], [task]),
        outcome,
        FAULTS[outcome.name],
    )
    assert (outcome.exit, outcome.left, outcome.struck) == (0, 0, True)
    assert made.code_of_child() == -9
    assert outcome.fault_at is not None
    assert outcome.fault_at < outcome.used < 10


def test_a_run_that_hangs_is_ended_and_what_it_leaves_is_counted(tmp_path: Path, tasks: list[Task]) -> None:
    made, outcome = Fake(tmp_path / "run", ["train"]), Outcome("undisturbed", -29.0)
    made.wait_until("trains_on")
    family = made.going.descendants()
    follow(made.process, made.going, Watch([made.folder / "submission.json"], tasks, tasks), outcome, None)
    assert outcome.exit is None
    assert outcome.left == len(family) == 1, "the child outlived it"
    assert not psutil.wait_procs(family, timeout=2)[1], "and is ended"


def test_the_benchmark_does_every_hurt_twice_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = bench_kaggle.plan_runs([])
    assert len(runs) == 8 + 14
    assert len(set(runs)) == 22
    made: list[str] = []

    def simulate(root: Path, budget: float, fault: Fault | None, backbone: Path) -> Outcome:
        root.mkdir(parents=True)
        made.append(root.name)
        return replace(GOOD, name=fault.name if fault else "undisturbed", budget=budget, solved_then=6 if fault else 0)

    monkeypatch.setattr(bench_kaggle, "simulate", simulate)
    first, again = ([bench_kaggle.run_once(*run, tmp_path, tmp_path) for run in runs] for _ in range(2))
    assert first == again
    assert len(made) == 22, "none was made twice"
    text = bench_kaggle.describe(first, "command")
    assert "**0 of 14 faults survived, 8 of 8 undisturbed runs in order**" in text
    assert "| undisturbed | 240 | 50.0 | 190.0 | 4.8 | 0 | 2 of 2 | 0 of 0 | 5 of 0 |" in text
    assert text.count("5 solved, and 6 before the fault") == 14
