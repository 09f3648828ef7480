"""Several processes of one program: how they are launched, and what is known of them without torch.

On GPUs accelerate's launcher starts a process for each; on CPUs torchrun does.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipeline.runtime.stop_signals import StopSignals

POLL_INTERVAL = 0.2


PARENT = "ARC_TRM_PARENT"
"""Environment variable that tells a child whose it is."""


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, before any accelerator is started."""
    return os.environ.get("RANK", "0") == "0"


def leave_at_once(code: int) -> None:
    """End this process without taking it apart, which takes seconds on a busy machine; everything is on disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_launched(words: Sequence[str], processes: int) -> int:
    """Run a stage in so many processes, on this screen, to its end; the exit code, which is that of the stage.

    A signal that asks this process to end is passed on to the launcher, which passes it on to them. Where this process
    is killed they end by themselves (`pipeline.worker`). On CPUs each computes on one thread, unless OMP_NUM_THREADS is
    set.
    """
    environment = child_environment()
    if not count_gpus():
        environment.setdefault("OMP_NUM_THREADS", "1")
    command = launch_command("pipeline.worker", words, processes)
    with StopSignals().watched() as stop:
        launcher = subprocess.Popen(command, env=environment, start_new_session=True)
        while launcher.poll() is None and not stop.received:
            time.sleep(POLL_INTERVAL)
        if stop.received:
            launcher.send_signal(stop.received)
        code = launcher.wait()
    return 128 + stop.received if stop.received and code else code


def child_environment() -> dict[str, str]:
    """The environment of a process that belongs to this one and ends with it."""
    environment = os.environ | {PARENT: str(os.getpid())}
    environment.setdefault("LOGLEVEL", "CRITICAL")  # torchrun's report repeats that of `launched_module`
    return environment


def launch_command(module: str, words: Sequence[str], processes: int) -> list[str]:
    """The command line that runs a module in so many processes: on GPUs by accelerate, on CPUs by torchrun."""
    plain = [sys.executable, "-m"]
    if processes == 1:
        return [*plain, module, *words]
    port = str(_free_port())
    number = str(processes)
    if count_gpus():
        options = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launcher = ["accelerate.commands.launch", "--num_processes", number, "--main_process_port", port, *options]
    else:
        launcher = ["torch.distributed.run", "--nproc-per-node", number, "--master-port", port]
    return [*plain, "pipeline.runtime.launched_module", *launcher, "-m", module, *words]


def count_gpus() -> int:
    """How many NVIDIA GPUs there are to use, without asking torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() and name.strip() != "-1"])
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(re.findall(r"^GPU \d+:", listed, re.M))


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
