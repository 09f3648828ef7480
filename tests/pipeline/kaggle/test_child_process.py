"""Child processes: how each end is classified, and that no process of them is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.kaggle import child_process
from pipeline.kaggle.child_process import ChildProcess, ChildResult
from pipeline.runtime.launcher import count_gpus, launch_command
from tests.helpers.paths import ROOT
from tests.helpers.process_family import is_gone, process_family, wait_until


def start(monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[ChildProcess, list[str]]:
    """Start a child that runs this script in place of a stage; returns it and its lines, with warnings marked."""
    monkeypatch.setattr(child_process, "launch_command", lambda *_: [sys.executable, "-c", script])
    lines: list[str] = []
    return ChildProcess([], 1, lines.append, lambda message: lines.append(f"WARNING {message}")), lines


def wait(child: ChildProcess, seconds: float = 20.0, patience: float = 20.0, stop_after: float = 1e9) -> ChildResult:
    begin = time.monotonic()
    return child.wait(begin + seconds, patience, lambda: time.monotonic() - begin > stop_after)


def test_its_output_is_passed_on_and_its_end_described(monkeypatch: pytest.MonkeyPatch) -> None:
    child, lines = start(monkeypatch, "print('one'); print('two')")
    assert wait(child).succeeded
    assert lines == ["one", "two"]
    child, _ = start(monkeypatch, "import sys; print('ValueError: no such thing', file=sys.stderr); sys.exit(1)")
    result = wait(child)
    assert not result.succeeded
    assert result.describe() == "exit code 1: ValueError: no such thing"


def test_its_output_is_utf_8_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("LC_ALL", "C")
    child, lines = start(monkeypatch, "print('größe ∞')")
    assert wait(child).succeeded
    assert lines == ["größe ∞"]


WRITE_EVENTS = """
import sys
from pipeline.runtime.console import Console
from pipeline.runtime.events import report_error
from pipeline.runtime.exit_codes import DiskFullError
Console().warn("a; b")
print("text")
sys.exit(report_error(DiskFullError("RUN: 3 MB are missing", "free some")))
"""


def test_events_are_separated_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    child, lines = start(monkeypatch, WRITE_EVENTS)
    result = wait(child)
    assert lines == ["WARNING a; b", "text", "error: RUN: 3 MB are missing"]
    assert (result.code, result.disk_full, result.out_of_memory) == (11, True, False)
    assert result.errors[0]["fix"] == "free some"
    assert result.describe() == "exit code 11: RUN: 3 MB are missing"


def test_a_killed_child_is_distinguished_from_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    child, _ = start(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    result = wait(child)
    assert (result.code, result.describe()) == (-9, "it was killed by signal 9")


GRANDCHILD = """
import subprocess, sys, time
script = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
inner = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
print(inner.pid, flush=True)
"""


@pytest.mark.parametrize(("ending", "why"), [("time.sleep(60)", "late"), ("time.sleep(0.7)", "ended")])
def test_no_process_of_it_is_left(monkeypatch: pytest.MonkeyPatch, ending: str, why: str) -> None:
    # A launcher that ends, or is killed, leaves processes behind in sessions of their own.
    child, lines = start(monkeypatch, GRANDCHILD + ending)
    result = wait(child, seconds=2.0)
    assert result.reason == why
    assert is_gone(int(lines[0]))


def test_a_stopped_process_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    child, _ = start(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    begin = time.monotonic()
    assert wait(child, seconds=1.0).reason == "late"
    assert time.monotonic() - begin < 4


def test_a_silent_child_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    child, _ = start(monkeypatch, "import time; print('here', flush=True); time.sleep(60)")
    assert wait(child, patience=1.0).reason == "silent"


def test_a_process_that_hangs_after_an_error_is_ended_sooner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(child_process, "SECONDS_AFTER_FATAL", 1.0)
    child, _ = start(monkeypatch, "import time; print('MemoryError', flush=True); time.sleep(60)")
    result = wait(child)
    assert (result.reason, result.out_of_memory) == ("silent", True)
    child, _ = start(
        monkeypatch, "import time; print('a batch did not fit in memory: at most 9', flush=True); time.sleep(2)"
    )
    assert wait(child).succeeded


TRACEBACK = """
import time, sys
try:
    [][1]
except IndexError:
    sys.excepthook(*sys.exc_info())
"""
IGNORED = "class Ended:\n    def __del__(self): [][1]\nEnded()\n"
CUDA_ERROR = """
print("[rank0]: Traceback (most recent call last):", "[rank0]:   File x", "[rank0]: RuntimeError: CUDA error: launch",
      "[rank0]: CUDA kernel errors might be reported later", "", sep="\\n", flush=True)
"""
COMPUTE = "end = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass\n"
IN_A_CHILD = f"import subprocess\nsubprocess.run([sys.executable, '-c', 'import time\\n' + {COMPUTE!r}])\n"


@pytest.mark.parametrize("beginning", [TRACEBACK, IGNORED, CUDA_ERROR], ids=["traceback", "ignored", "rank"])
def test_a_process_that_waits_after_a_fatal_line_is_ended_sooner(
    monkeypatch: pytest.MonkeyPatch, beginning: str
) -> None:
    monkeypatch.setattr(child_process, "SECONDS_AFTER_FATAL", 1.0)
    child, _ = start(monkeypatch, f"import time\n{beginning}\ntime.sleep(60)")
    assert wait(child).reason == "silent"


@pytest.mark.parametrize("work", [COMPUTE, IN_A_CHILD], ids=["itself", "in a child"])
def test_a_process_that_computes_after_a_fatal_line_is_not_ended(monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    """Objects that end print such lines, and compiling for a GPU is a silent minute of work."""
    monkeypatch.setattr(child_process, "SECONDS_AFTER_FATAL", 1.5)
    child, _ = start(monkeypatch, TRACEBACK + work)
    assert wait(child).succeeded


def test_a_fatal_line_is_forgotten_when_the_process_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(child_process, "SECONDS_AFTER_FATAL", 1.0)
    child, _ = start(monkeypatch, TRACEBACK + "print('train 3/9', flush=True); time.sleep(2.5)")
    assert wait(child).succeeded
    heartbeat = tmp_path / ".alive"
    script = f"import pathlib\n{TRACEBACK}\ntime.sleep(0.3); pathlib.Path({str(heartbeat)!r}).touch(); time.sleep(2.5)"
    monkeypatch.setattr(child_process, "launch_command", lambda *_: [sys.executable, "-c", script])
    assert wait(ChildProcess([], 1, print, print, heartbeat)).succeeded


def test_a_heartbeat_from_before_a_fatal_line_does_not_undo_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(child_process, "SECONDS_AFTER_FATAL", 1.0)
    heartbeat = tmp_path / ".alive"
    script = f"import pathlib; pathlib.Path({str(heartbeat)!r}).touch()\n{TRACEBACK}\ntime.sleep(60)"
    monkeypatch.setattr(child_process, "launch_command", lambda *_: [sys.executable, "-c", script])
    assert wait(ChildProcess([], 1, print, print, heartbeat)).reason == "silent"


@pytest.mark.parametrize("patience", [1.0, 20.0], ids=["no fatal line", "an error event"])
def test_computing_alone_is_no_progress(monkeypatch: pytest.MonkeyPatch, patience: float) -> None:
    """A process that waits for a GPU may use its core, and one that has reported its error has nothing to compute."""
    monkeypatch.setattr(child_process, "SECONDS_AFTER_FATAL", 1.0)
    event = 'print(\'{"event": "error", "code": 1}\', flush=True)\n' if patience > 1 else ""
    child, _ = start(monkeypatch, f"import time\n{event}end = time.monotonic() + 9\nwhile time.monotonic() < end: pass")
    assert wait(child, patience=patience).reason == "silent"


def test_a_heartbeat_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heartbeat = tmp_path / ".alive"
    script = f"import time, pathlib\nfor _ in range(8): pathlib.Path({str(heartbeat)!r}).touch(); time.sleep(0.4)"
    monkeypatch.setattr(child_process, "launch_command", lambda *_: [sys.executable, "-c", script])
    assert wait(ChildProcess([], 1, print, print, heartbeat), patience=1.5).succeeded


def test_a_stopped_run_gives_its_child_time_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import signal, sys, time; signal.signal(15, lambda *_: (print('saved', flush=True), sys.exit(143)))\n"
    child, lines = start(monkeypatch, script + "print('on', flush=True); time.sleep(60)")
    assert wait(child, stop_after=1.0).reason == "stopped"
    assert lines == ["on", "saved"]


@pytest.mark.parametrize(
    ("line", "memory", "space"),
    [
        ("RuntimeError: [enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory", True, False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", True, False),
        ("RuntimeError: can't start new thread", True, False),
        ("OSError: [Errno 28] No space left on device", False, True),
        ("ValueError: train.hold_out is 4", False, False),
    ],
)
def test_messages_of_torch_and_the_system_are_recognized(line: str, memory: bool, space: bool) -> None:
    result = ChildResult(1, "ended", ("train 3/9", line))
    assert (result.out_of_memory, result.disk_full) == (memory, space)
    assert line[:50] in result.describe()


def test_a_stage_ends_with_the_run_that_started_it(tmp_path: Path) -> None:
    script = "from pipeline.worker import leave_with_parent; import time\n"
    script += "leave_with_parent(); print('on', flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"ARC_TRM_PARENT": str(parent.pid)},
        stdout=subprocess.PIPE,
    ) as stage:
        assert stage.stdout is not None
        assert stage.stdout.readline() == b"on\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert stage.wait(timeout=10) == 1


def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")
    assert count_gpus() == 3
    command = launch_command("pipeline.worker", ["train", "RUN"], 3)
    assert command[3:6] == ["accelerate.commands.launch", "--num_processes", "3"]
    assert command[-4:] == ["-m", "pipeline.worker", "train", "RUN"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == 0
    assert launch_command("pipeline.worker", ["train"], 2)[3:6] == ["torch.distributed.run", "--nproc-per-node", "2"]
    assert launch_command("pipeline.worker", ["train"], 1) == [sys.executable, "-m", "pipeline.worker", "train"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_signal_to_a_run_of_several_processes_ends_all_of_them(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--recipe", "smoke_symbols", "--processes", "2", "--set", "train.steps=100000", "--run-dir", str(tmp_path)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    metrics = tmp_path / "metrics.jsonl"
    with process_family([sys.executable, "-m", "pipeline", "solve", *words]) as (run, children):
        wait_until(lambda: run.poll() is not None or (metrics.exists() and metrics.read_text() != ""))
        assert run.poll() is None
        assert len(children()) == 3, "a launcher and two processes"
        run.send_signal(number)
        assert run.wait(timeout=60) == (143 if number == signal.SIGTERM else -9)
    assert bool(list((tmp_path / "checkpoints").glob("step_*"))) == (number == signal.SIGTERM)
