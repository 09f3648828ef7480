"""SIGTERM and Ctrl-C end every long command within ten seconds, with its processes, also during a long step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.recipes.registry import recipe
from tests.helpers.commands import run
from tests.helpers.paths import ROOT
from tests.helpers.process_family import is_gone, seconds_used, wait_until
from tests.helpers.sources import FIRST, SECOND, THIRD, write_source

LIMIT = 10.0
"""Seconds from the signal to the end."""
SECONDS_AT_WORK = 3.0
"""Seconds for which a command works before it gets the signal."""
LONG = ("--set", "train.steps=1000000", "--set", "train.checkpoint_every=100000")
LARGE = [word for name, value in {
    "model.hidden": 1024, "model.heads": 8, "model.layers": 4, "model.canvas": "full", "model.board_side": 30,
    "train.batch_size": 512, "train.steps": 100, "train.micro_batch": "null",
}.items() for word in ("--set", f"{name}={value}")]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source, a larger one to train on, a puzzle set and a checkpoint."""
    folder = tmp_path_factory.mktemp("files")
    write_source(folder / "tasks", FIRST, SECOND)
    write_source(folder / "others", THIRD)
    start = ("solve", folder / "tasks", "--recipe", "smoke", "--set", "train.steps=2")
    assert run(*start, "--run-dir", folder / "run") == 0
    return folder


def commands(files: Path, out: Path) -> dict[str, tuple[str | Path, ...]]:
    """Return a long command of each kind; all write to `out`."""
    many = ("--score", "arc-agi-2/training", "--augmentations", "200000", "--out", out)
    short = ("solve", files / "tasks", "--recipe", "smoke")
    solve = (*short, *LONG, "--run-dir", out)
    predict = (
        "predict",
        "--puzzles",
        files / "run" / "puzzles",
        "--checkpoint",
        files / "run" / "checkpoints" / "final",
    )
    own = ("pretrain", "--recipe", "smoke", *LONG, "--set", f"source={files / 'tasks'}", "--train", files / "others")
    return {
        "build": ("build", *many, "--on-leak", "allow"),
        "build in processes": ("build", *many, "--on-leak", "allow", "--workers", "2"),
        "solve": solve,
        "solve in processes": (*solve, "--processes", "2"),
        "train in one long step": (
            "solve", "arc-agi-1/training", "--limit", "40", "--recipe", "smoke", *LARGE, "--run-dir", out,
        ),
        "predict": (*predict, "--out", out, "--trajectories", "60000", "--noise", "0.1"),
        "pretrain": (*own, "--run-dir", out.with_name("run"), "--out", out),
        "table": ("table", "puzzles", "--set", "train.steps=1000000", "--jobs", "2", "--out", out),
        "published export": ("build", *many, "--on-leak", "allow", "--format", "published"),
        "rescore": (*predict, "--out", out, "--trajectories", "500", "--noise", "0.1", "--rescore", "100000"),
        "training on each task": (
            *short, "--set", "train.steps=2", "--set", "train.task_steps=1000000", "--run-dir", out,
        ),
        "kaggle": (
            "solve", "arc-agi-1/training", "--max-side", "3", "--limit", "1", "--recipe", "kaggle", "--budget", "20m",
            "--run-dir", out,
        ),
    }  # fmt: skip


def start(command: tuple[str | Path, ...]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "pipeline", *map(str, command)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def await_work(process: subprocess.Popen[str]) -> None:
    """Wait until the process and those that it started have used the processor for some seconds."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        used = 0.0
        for member in family:
            try:
                used += sum(member.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        # Starting takes about two seconds of the processor in each process.
        if used > SECONDS_AT_WORK + 3.0 * len(family):
            return
        time.sleep(0.2)
    pytest.fail(f"it did not get to work: {process.communicate()[0]}")


def await_idleness(process: subprocess.Popen[str]) -> None:
    """Wait until the process has started, and then has not used the processor for a second."""
    own = psutil.Process(process.pid)
    before = -1.0
    while process.poll() is None and not 1.0 < before == seconds_used(own):
        before = seconds_used(own)
        time.sleep(1.0)
    assert process.poll() is None, process.communicate()[0]


def end_with_signal(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, float]:
    """Send a signal; return what the process has printed, and the seconds until its end, at most three times LIMIT."""
    sent = time.monotonic()
    process.send_signal(number)
    try:
        said, _ = process.communicate(timeout=3 * LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    return said, time.monotonic() - sent


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_signal_ends_a_process_that_waits_for_others(tmp_path: Path, number: signal.Signals) -> None:
    """The first of two processes waits in torch's C++ code, which Python's signal handlers do not interrupt."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    write_source(tmp_path / "tasks", FIRST)
    config = recipe("smoke").model_copy(update={"source": str(tmp_path / "tasks")})
    (run_dir / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    launch = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    words = [sys.executable, "-m", "pipeline.worker", "solve", str(run_dir)]
    process = subprocess.Popen(
        words, cwd=ROOT, env=os.environ | launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    await_idleness(process)
    said, seconds = end_with_signal(process, number)
    assert seconds < LIMIT, said
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("name", commands(Path(), Path("out")))
def test_a_signal_ends_a_command_and_its_processes(
    files: Path, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    process = start(commands(files, tmp_path / "out")[name])
    await_work(process)
    family = psutil.Process(process.pid).children(recursive=True)
    said, seconds = end_with_signal(process, number)
    assert seconds < LIMIT, said
    # An unattended run ends with the submission that it has.
    assert process.returncode == (0 if name == "kaggle" else 128 + number), said
    if "in processes" not in name:  # torchrun, and joblib's resource tracker, print tracebacks of their own
        assert "Traceback" not in said
    wait_until(lambda: all(map(is_gone, family)), seconds=2)
