"""What this machine has: memory in bytes, processor cores, and a bound of its speed; no torch is imported."""

import os
import subprocess
from functools import cache

from joblib import cpu_count

from augment.errors import UserError
from augment.memory import main_memory
from pipeline.runtime.console import Console
from pipeline.runtime.exit_codes import NoDeviceError
from pipeline.runtime.launcher import count_gpus

CORE_FLOP = 2e12
"""More operations per second than a processor core makes: AMX in bf16 at 4 GHz has as many."""
GPU_FLOP = 5e15
"""More operations per second than a GPU makes: twice a B200 in dense bf16."""
WORKERS_PER_CORE = 4
"""Processes per core; more only take memory."""


def cpu_is_chosen() -> bool:
    """Return whether accelerate's environment variable ACCELERATE_USE_CPU keeps it from using a GPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


@cache
def gpu_memory() -> int:
    """Return the bytes of the largest GPU, without initialising CUDA; 0 if there is none or it does not say."""
    if not count_gpus() or cpu_is_chosen():
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        return max((int(line) for line in listing.split()), default=0) * 2**20
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def device_memory() -> int:
    """Return the bytes of the memory in which models are trained: of the largest GPU, or main memory without one."""
    return gpu_memory() or main_memory()


@cache
def speed_bound() -> float:
    """Return more operations per second than all GPUs or cores of this machine, and other processes, make."""
    processes = max(1, int(os.environ.get("WORLD_SIZE") or 1))
    return max(GPU_FLOP * max(count_gpus(), processes if gpu_memory() else 0), CORE_FLOP * cpu_count() * processes)


def fit_workers(workers: int, name: str, console: Console) -> int:
    """Return how many worker processes to start: those asked for, at most `WORKERS_PER_CORE` a core, with a log line.

    A setting that was made for a larger machine must not end a run on a smaller one, and results do not depend on it.
    """
    most = WORKERS_PER_CORE * cpu_count()
    if workers > most:
        console.log(f"{name} is {workers}, and this machine has {cpu_count()} cores: {most} are started")
    return min(workers, most)


def check_processes(processes: int) -> None:
    """Check that this machine can run so many processes of one stage: one for each GPU, or a few per core without GPUs.

    Raises:
        NoDeviceError: if there are GPUs, and fewer than processes: NCCL refuses two processes on one GPU.
        UserError: if there are many more processes than cores.
    """
    gpus = 0 if cpu_is_chosen() else count_gpus()
    if gpus and processes > gpus:
        raise too_few_gpus(f"--processes is {processes}", gpus)
    most = WORKERS_PER_CORE * cpu_count()
    if processes > most and not gpus:
        raise UserError(
            f"--processes is {processes}, and this machine has {cpu_count()} cores", f"give {most} or fewer"
        )


def too_few_gpus(asked: str, gpus: int) -> NoDeviceError:
    """Return the error for more processes than GPUs.

    Args:
        asked: what says how many processes there are to be, and how many.
        gpus: how many GPUs there are.
    """
    return NoDeviceError(
        f"{asked}, and there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'}",
        f"give {gpus} or fewer, or set CUDA_VISIBLE_DEVICES= (to nothing) to compute on the processor",
    )


def check_memory(needed: float, memory: int, settings: str, purpose: str) -> None:
    """Raise a UserError if `purpose` needs more bytes than the memory has.

    Args:
        needed: bytes, a lower bound.
        memory: bytes that there are.
        settings: the settings that decide it, with their values, as "model.hidden=512".
        purpose: what the memory is for.
    """
    if needed > memory:
        raise UserError(
            f"{settings}: {purpose} needs at least {_amount(needed)} GiB of memory, and there are "
            f"{_amount(memory)} GiB",
            "lower it",
        )


def _amount(size: float) -> str:
    return f"{size / 2**30:,.1f}" if size < 2**50 else f"{size / 2**30:.1e}"
