"""Launch several processes of one program, and answer questions about processes and GPUs without importing torch.

On GPUs accelerate's launcher starts a process for each GPU; on CPUs torchrun starts them.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipeline.runtime.exit_codes import NoDeviceError
from pipeline.runtime.stop_signals import SECONDS_TO_END, StopSignals, end_children

LAUNCH_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Environment variables that torchrun and accelerate set in each process; some images set them for one process."""
POLL_INTERVAL = 0.2
PARENT = "ARC_TRM_PARENT"
"""Environment variable with the process number of the parent, so that a child can end with it."""


def count_launched() -> int:
    """Return how many processes were launched together, of which this is one: WORLD_SIZE, or 1 if it is not set.

    Raises:
        NoDeviceError: if WORLD_SIZE is not a number of processes.
    """
    text = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise NoDeviceError(f"the environment variable WORLD_SIZE is {text!r}, not a number of processes", "unset it")
    return int(text)


def describe_launch() -> str:
    """Return the variables of a launch that are set, and their values, for messages."""
    return ", ".join(f"{name}={os.environ[name]}" for name in LAUNCH_VARIABLES if os.environ.get(name))


def forget_launch() -> None:
    """Remove the variables of a launch: one process needs no process group, whatever its image or notebook sets."""
    for name in LAUNCH_VARIABLES:
        os.environ.pop(name, None)


def is_first() -> bool:
    """Return whether this is the process that writes files and prints; known before any accelerator is started."""
    return count_launched() == 1 or (os.environ.get("RANK") or "0") == "0"


def leave_at_once(code: int) -> None:
    """End this process without Python's cleanup, which takes seconds on a busy machine; all files are written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_launched(words: Sequence[str], processes: int) -> int:
    """Run a stage in several processes with their output on this screen, and return its exit code.

    SIGTERM or SIGINT to this process is passed on to the launcher, which passes it on to the processes. If this
    process is killed, they end by themselves (`pipeline.worker`). On CPUs each computes on one thread, unless
    OMP_NUM_THREADS is set.

    Args:
        words: command-line arguments of `python -m pipeline.worker`.
        processes: how many.
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
            try:
                launcher.wait(_seconds_for_processes())
            except subprocess.TimeoutExpired:
                end_children()
        code = launcher.wait()
    return 128 + stop.received if stop.received and code else code


def _seconds_for_processes() -> float:
    """Return how long launched processes may take to end after a signal: torchrun's own time, and some more.

    Each of them bounds its current step itself, and then writes a checkpoint.
    """
    return SECONDS_TO_END + float(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT") or 30)


def child_environment() -> dict[str, str]:
    """Return the environment of a child process that ends when this process does."""
    environment = os.environ | {PARENT: str(os.getpid())}
    environment.setdefault("LOGLEVEL", "CRITICAL")  # torchrun's report would repeat that of `launched_module`
    return environment


def launch_command(module: str, words: Sequence[str], processes: int) -> list[str]:
    """Return the command line that runs a module in several processes: by accelerate on GPUs, by torchrun on CPUs."""
    python = [sys.executable, "-m"]
    if processes == 1:
        return [*python, module, *words]
    port = str(_free_port())  # the launchers' default port may be in use by another run on this machine
    number = str(processes)
    if count_gpus():
        options = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launcher = ["accelerate.commands.launch", "--num_processes", number, "--main_process_port", port, *options]
    else:
        launcher = ["torch.distributed.run", "--nproc-per-node", number, "--master-port", port]
    return [*python, "pipeline.runtime.launched_module", *launcher, "-m", module, *words]


def count_gpus() -> int:
    """Return the number of NVIDIA GPUs that may be used, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(re.findall(r"^GPU \d+:", listing, re.M))


def _free_port() -> int:
    """Return a TCP port of this machine that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
