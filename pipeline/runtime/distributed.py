"""Processes and devices of a launched program, and their collective operations (accelerate, torch.distributed).

The number of processes comes from the environment variables of `accelerate launch` or `torchrun`; without them there
is one process. `LaunchedProcesses` is the process group that `solver` works with.

Gradients are summed in one collective operation after the backward pass (`solver.training.gradients`), not by a model
wrapper during it. So a process may split its slots, or run out of memory and try again, without blocking the others in
a reduction.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, distributed

from pipeline.runtime.console import Console
from pipeline.runtime.exit_codes import NoDeviceError
from pipeline.runtime.launcher import count_launched, describe_launch, forget_launch, is_first
from pipeline.runtime.machine import cpu_is_chosen, too_few_gpus
from solver.training.device_memory import MEMORY_ERRORS, ran_out_of_memory
from solver.training.process_group import ProcessGroup

POLL_INTERVAL = 0.2
_alone = False


def start_accelerator(trackers: Sequence[str] = (), folder: Path | None = None) -> Accelerator:
    """Return the accelerator of this process: on CUDA if available, else on the CPU (other devices lack float64).

    Args:
        trackers: names of accelerate's experiment trackers.
        folder: where trackers write.

    Raises:
        NoDeviceError: if fewer processes take part than were launched; each would train a model of its own. Or if more
            processes were launched on this machine than it has GPUs, which NCCL refuses.
    """
    launched = count_launched()
    summary = f"{launched} processes were launched ({describe_launch()}), but not as many take part"
    fix = (
        "on CPU launch them with torchrun --nproc-per-node N, on GPUs with accelerate launch --num_processes N; "
        "unset these variables to run one process"
    )
    if launched == 1:
        forget_launch()
    _check_gpus()
    try:
        accelerator = Accelerator(
            cpu=not cuda_works(), mixed_precision="no", log_with=list(trackers) or None, project_dir=folder
        )
    except ValueError as error:
        raise NoDeviceError(f"{summary} ({error})", fix) from error
    if accelerator.num_processes != launched:
        raise NoDeviceError(summary, fix)
    return accelerator


def _check_gpus() -> None:
    """Raise a NoDeviceError if more processes were launched on this machine than it has GPUs that compute."""
    here = os.environ.get("LOCAL_WORLD_SIZE") or "1"
    if not here.isdecimal() or int(here) < 2 or cpu_is_chosen() or not cuda_works():
        return
    if int(here) > (gpus := torch.cuda.device_count()):
        raise too_few_gpus(f"{here} processes were launched on this machine ({describe_launch()})", gpus)


@cache
def cuda_works() -> bool:
    """Return whether there is a CUDA device and it computes, a product and its gradient; if not it is reported.

    The usual reason is a card that the installed torch has no kernels for, such as a P100.
    """
    if not torch.cuda.is_available():
        return False
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK") or 0) % torch.cuda.device_count())
    try:
        with torch.enable_grad():
            x = torch.ones(8, 8, device=device, requires_grad=True)
            (gradient,) = torch.autograd.grad((x @ x).sum(), x)
            gradient.sum().item()
    except MEMORY_ERRORS as error:
        if ran_out_of_memory(error):
            return True  # it computes; what else fills its memory may have ended by the first step
        if is_first():
            name = torch.cuda.get_device_name(device)
            reason = str(error).splitlines()[0]
            Console().warn(f"{name} cannot be used with torch {torch.__version__} ({reason}): the CPU is used instead")
        return False
    return True


def join_process_group() -> "LaunchedProcesses":
    """Return the process group of the processes that were launched together, for a stage without trackers."""
    return LaunchedProcesses(start_accelerator())


@contextmanager
def alone() -> Iterator[None]:
    """Make this process the only one of its group within the block: each stage runs in it alone, on its own device.

    Two processes must not run the same stage in the same folder at the same time.
    """
    global _alone
    before = _alone
    _alone = True
    try:
        yield
    finally:
        _alone = before


def leave_process_group() -> None:
    """Close the process group at the end of a successful command."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class LaunchedProcesses(ProcessGroup):
    """The processes of an accelerator. Tensors are returned on its device.

    Raises:
        ConnectionError: from any of its methods, if another process is gone. With NCCL no error is raised: torch's
            watchdog notices it minutes later and ends this process.
    """

    def __init__(self, accelerator: Accelerator):
        self.device = accelerator.device
        if not _alone:
            self.index = accelerator.process_index
            self.count = accelerator.num_processes

    def sum_(self, tensor: Tensor) -> Tensor:  # noqa: D102
        moved = tensor.to(self.device)
        if self.count > 1:
            _run_collective(lambda: distributed.all_reduce(moved))
        return moved

    def start_sum(self, tensor: Tensor) -> Callable[[], Tensor]:  # noqa: D102
        if self.count == 1:
            return super().start_sum(tensor)
        moved = tensor.to(self.device)
        work = _run_collective(lambda: distributed.all_reduce(moved, async_op=True))

        def wait() -> Tensor:
            _run_collective(work.wait)
            return moved

        return wait

    def gather(self, tensor: Tensor) -> list[Tensor]:  # noqa: D102
        moved = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(moved) for _ in range(self.count)] if self.count > 1 else [moved]
        if self.count > 1:
            _run_collective(lambda: distributed.all_gather(parts, moved))
        return parts

    def smallest(self, number: int) -> int:
        """Return the smallest of the numbers of all processes."""
        return min(int(other) for other in self.gather(torch.tensor([number])))

    def wait(self) -> None:
        """Wait until every process has called this."""
        self.any(False)

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Poll until `done` returns true, then wait until every process is here.

        Other processes may work for hours meanwhile, longer than the timeout of a collective operation. If one of them
        ends early, the launcher ends all.
        """
        while not done():
            time.sleep(POLL_INTERVAL)
        self.wait()


def _run_collective(operation: Callable[[], Any]) -> Any:
    """Run a collective operation; ConnectionError if another process is gone. Lack of memory is raised as it is."""
    try:
        return operation()
    except RuntimeError as error:
        if ran_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0][:200]
        raise ConnectionError(
            f"another process of this run was lost ({reason}): see its last output, then run the same command again; "
            "it resumes from what was saved"
        ) from error
