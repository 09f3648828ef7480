"""Processes and devices: how many were launched, on what they run, and how they talk to each other (accelerate).

In: what `accelerate launch` or `torchrun` left in the environment, or nothing for one process. Out: an accelerator,
and the `solver` view of it. Gradients are summed in one piece and not by a wrapped model, so that a process may split
its slots, or run out of memory and try again, without the others waiting for a reduction that does not come.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, distributed

from pipeline.runtime.exit_codes import NoDeviceError
from solver.training.process_group import ProcessGroup

POLL_INTERVAL = 0.2
_alone = False


def start_accelerator(trackers: Sequence[str] = (), folder: Path | None = None) -> Accelerator:
    """The accelerator of this process: on CUDA where there is one, else on the CPU (float64 rules others out).

    Raises:
        NoDeviceError: where not as many processes take part as were launched; they would train apart from each other.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    summary = f"{launched} processes were launched (WORLD_SIZE), but not as many take part"
    fix = "on CPU launch them with torchrun --nproc-per-node N, on GPUs with accelerate launch --num_processes N"
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="no", log_with=list(trackers) or None, project_dir=folder
        )
    except ValueError as error:
        raise NoDeviceError(f"{summary} ({error})", fix) from error
    if accelerator.num_processes != launched:
        raise NoDeviceError(summary, fix)
    return accelerator


def join_process_group() -> "LaunchedProcesses":
    """The processes that were launched together, of which this is one, for a stage that needs no trackers."""
    return LaunchedProcesses(start_accelerator())


@contextmanager
def alone() -> Iterator[None]:
    """While this lasts, this process works by itself, on its own device: for each stage it is the first and only one.

    What it does must not be what another process does at the same time in the same folder.
    """
    global _alone
    before = _alone
    _alone = True
    try:
        yield
    finally:
        _alone = before


def leave_process_group() -> None:
    """At the end of a command that went well: the processes no longer talk to each other."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class LaunchedProcesses(ProcessGroup):
    """The processes of an accelerator. Tensors come back on its device.

    Raises:
        ConnectionError: from any of its methods, where another process is gone. With NCCL it is torch's own watchdog
            that notices and ends the process, minutes later.
    """

    def __init__(self, accelerator: Accelerator):
        self.device = accelerator.device
        if not _alone:
            self.index = accelerator.process_index
            self.count = accelerator.num_processes

    def sum_(self, tensor: Tensor) -> Tensor:  # noqa: D102
        moved = tensor.to(self.device)
        if self.count > 1:
            _together(lambda: distributed.all_reduce(moved))
        return moved

    def gather(self, tensor: Tensor) -> list[Tensor]:  # noqa: D102
        moved = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(moved) for _ in range(self.count)] if self.count > 1 else [moved]
        if self.count > 1:
            _together(lambda: distributed.all_gather(parts, moved))
        return parts

    def smallest(self, number: int) -> int:
        """The smallest of every process's number."""
        return min(int(other) for other in self.gather(torch.tensor([number])))

    def wait(self) -> None:
        """Until every process is here."""
        self.any(False)

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Until `done` says so, looking now and then, and every process is here.

        Others may work for hours meanwhile, longer than they can be waited for directly. Where one of them ends early,
        the launcher ends all.
        """
        while not done():
            time.sleep(POLL_INTERVAL)
        self.wait()


def _together(work: Callable[[], Any]) -> None:
    try:
        work()
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise ConnectionError(
            f"another process of this run was lost ({reason}): see what it said, then give the same command again; it "
            "goes on from what was kept"
        ) from error
