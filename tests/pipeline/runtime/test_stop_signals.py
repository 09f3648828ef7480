"""A signal ends a process in time, with its code, also while it is in a long call; no child is left."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.runtime.stop_signals import StopSignals, bounded_end
from tests.helpers.paths import ROOT

BUSY = """
import subprocess, sys
from pipeline.runtime.stop_signals import StopSignals, bounded_end, exit_on_sigterm
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
with exit_on_sigterm(), bounded_end(0.5), StopSignals().watched({bound}):
    print(child.pid, flush=True)
    import torch
    torch.set_num_threads(1)
    matrix = torch.ones(9000, 9000)
    print("begin", flush=True)
    for _ in range(100):
        matrix @ matrix  # a call that no handler interrupts
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_long_call_is_ended_with_its_children(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(bound=0.5)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    assert process.stdout.readline() == "begin\n"
    start = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    process.stdout.close()
    assert time.monotonic() - start < 10
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_block_that_ends_in_time_is_left_in_peace() -> None:
    with bounded_end(0.2), StopSignals().watched(0.2) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    time.sleep(0.5)
    assert signal.set_wakeup_fd(-1) == -1


TRACKER = """
from multiprocessing.resource_tracker import _resource_tracker
from joblib.externals.loky.backend.resource_tracker import _resource_tracker as joblib_tracker
from pipeline.runtime import stop_signals
for tracker in (_resource_tracker, joblib_tracker):
    tracker.ensure_running()
stop_signals.end_children(grace=0.5)
assert _resource_tracker._check_alive() and joblib_tracker._check_alive()
stop_signals._is_resource_tracker = lambda _: False  # as just after their start, when they have no command line
stop_signals.end_children(grace=0.5)
assert _resource_tracker._check_alive() and joblib_tracker._check_alive()
"""


def test_resource_trackers_are_not_ended_with_other_children() -> None:
    """They remove shared memory after the process, and a process whose tracker is gone warns when it starts another."""
    done = subprocess.run([sys.executable, "-c", TRACKER], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
