"""Two commands on one folder: the second is refused and told who works there; the processes of one command are not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import save_file

from augment import open_puzzle_set
from augment.process_identity import ProcessIdentity, find_place, find_start
from pipeline.checkpoints.checkpoint import save_checkpoint
from pipeline.checkpoints.convert_trm import to_published
from pipeline.runtime.lock_owner import OWNERS
from solver.model.model import RecursiveModel
from tests.helpers.commands import refuse, run
from tests.helpers.paths import ROOT
from tests.helpers.untrained import MODEL, make_checkpoint

SOURCE = ("arc-agi-1/training", "--max-side", "3", "--limit", "1")
BUILD = ("build", "--score", *SOURCE, "--augmentations", "1", "--board-side", str(MODEL.board_side))
SMOKE = ("--recipe", "smoke", "--set", "train.steps=100000", "--set", "train.checkpoint_every=20")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    assert run(*BUILD, "--out", folder / "set") == 0
    save_checkpoint(folder / "checkpoint", make_checkpoint(open_puzzle_set(folder / "set")))
    save_file(to_published(RecursiveModel(MODEL).state_dict()), folder / "step.safetensors")
    return folder


def hold(lock: Path) -> str:
    """Lock in the name of a process that runs: that which started this one. Returns what a message says of it."""
    number = os.getppid()
    lock.mkdir(parents=True)
    owner = lock / str(ProcessIdentity(find_place(), number, find_start(number), "0123abcd"))
    owner.write_text(json.dumps({"host": "here", "since": "2026-01-02 03:04:05", "command": "make tea"}))
    return f"another process is at work in this folder: process {number} on here since 2026-01-02 03:04:05 (make tea)"


def test_every_command_refuses_a_folder_in_use(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, out = tmp_path / "run", tmp_path / "out"
    said = hold(inside / ".lock")
    assert hold(tmp_path / ".out.lock") == said
    before = sorted(tmp_path.rglob("*"))
    predict = ("predict", "--puzzles", inputs / "set", "--checkpoint", inputs / "checkpoint")
    for words in (
        ("solve", *SMOKE, "--run-dir", inside),
        ("train", "--recipe", "smoke", "--puzzles", inputs / "set", "--run-dir", inside),
        ("pretrain", "--recipe", "smoke", "--train", "concept", "--run-dir", inside, "--out", tmp_path / "other"),
        ("pretrain", "--recipe", "smoke", "--train", "concept", "--run-dir", tmp_path / "other", "--out", out),
        ("table", "puzzles", "--out", inside),
        (*BUILD, "--out", out),
        (*BUILD, "--out", inside / "puzzles"),
        (*predict, "--out", out),
        (*predict, "--out", inside / "predictions"),
        ("backbone", inputs / "checkpoint", "--out", out),
        ("convert", inputs / "step.safetensors", "--out", out),
    ):
        assert said in refuse(capsys, *words), words
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_second_run_is_refused_and_the_first_goes_on(processes: str, tmp_path: Path) -> None:
    """Also when the first is killed: its processes end with it, and the same command resumes."""
    folder = tmp_path / "run"
    line = [sys.executable, "-m", "pipeline", "solve", *SMOKE, "--run-dir", str(folder), "--processes", processes]
    environment = {name: value for name, value in os.environ.items() if name != OWNERS}
    first = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(folder.glob("checkpoints/step_*")):
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.1)
    second = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert second.returncode == 2
    assert f"process {first.pid} on" in second.stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = subprocess.run([*line, "--budget", "20s"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert "resumed at step" in third.stdout
    steps = [json.loads(text)["step"] for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert not list(folder.rglob(".lock"))
