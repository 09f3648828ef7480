"""The batches of a training, on its device; on a GPU the next one is made while a step runs.

Drawing and rendering a batch takes the processor 8 ms (768 examples of the full board) to 40 ms (3072), and copying it
to a GPU as int64 from pageable memory 10 ms or more; the GPU has nothing to do meanwhile. So a thread does this for the
next batch during a step, and copies it as small integers from pinned memory, in a stream of its own.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.config.run_config import TrainSettings
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.data.sampler import Sampler
from solver.training.learner import Learner
from solver.training.process_group import own_part

SMALL_TYPES = {torch.uint8: "tokens_BS labels_BS transforms_B", torch.int32: "cells_BS"}
"""The types in which the fields of a batch are copied; the other fields have one value an example, or are bool."""


def next_batch(examples: PuzzleDataset, sampler: Sampler, learner: Learner, settings: TrainSettings) -> Batch:
    """Return this process's next batch: an example for each of its slots, or for the halted ones only (train.feed)."""
    processes = learner.processes
    halted_only = settings.feed == "halted"
    sizes = learner.free_slots(settings.batch_size) if halted_only else processes.sizes(settings.batch_size)
    return examples.training_batch(sampler, sum(sizes), settings.shift, own_part(sizes, processes.index))


@dataclass(frozen=True)
class Drawn:
    """A batch on the device, the sampler's position after it, and the end of its copy in the stream of copies."""

    batch: Batch
    position: dict[str, Any]
    copied: Any = None


class BatchSource:
    """The batches of a training one after another, each drawn when it is asked for, or one ahead.

    Args:
        draw: draws the next batch from `sampler` and renders it in main memory.
        sampler: where the examples come from.
        device: where the batches are used.
        ahead: draw each batch in a thread while the one before it is used. The size of the next batch must not depend
            on the results of a step, and nothing else may draw from the sampler.
    """

    def __init__(self, draw: Callable[[], Batch], sampler: Sampler, device: torch.device, ahead: bool):
        self._draw = draw
        self._sampler = sampler
        self._device = device
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches") if ahead else None
        self._next: Future[Drawn] | None = None
        self._position: dict[str, Any] | None = None
        self._stream = torch.cuda.Stream(device) if ahead and device.type == "cuda" else None

    @property
    def position(self) -> dict[str, Any]:
        """The sampler's position after the last batch that was taken; a batch that is drawn ahead does not count."""
        return self._position or self._sampler.position

    def take(self) -> Batch:
        """Return the next batch, on the device."""
        if self._executor is None:
            return self._draw().to(self._device)
        # An error of the thread is raised here, as it would be without a thread.
        drawn = (self._next or self._executor.submit(self._draw_ahead)).result()
        self._position = drawn.position
        self._next = self._executor.submit(self._draw_ahead)
        if drawn.copied is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(drawn.copied)
            # The memory belongs to the stream of copies, and must not be reused there while a step needs it.
            drawn.batch.each(lambda tensor: tensor.record_stream(stream) or tensor)
        return drawn.batch

    def _draw_ahead(self) -> Drawn:
        """Draw a batch and start its copy; runs in the thread."""
        batch = self._draw()
        position = self._sampler.position
        if self._stream is None:
            return Drawn(copy_small(batch, self._device), position)
        with torch.cuda.stream(self._stream):
            return Drawn(copy_small(batch, self._device), position, self._stream.record_event())


def copy_small(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on `device`, copied as small integers and widened there."""
    types = {name: kind for kind, names in SMALL_TYPES.items() for name in names.split()}

    def copy(name: str) -> Tensor:
        tensor = getattr(batch, name)
        small = tensor.to(types.get(name, tensor.dtype))
        # Only from pinned memory is a copy made while the processor goes on.
        pinned = small.pin_memory() if device.type == "cuda" else small
        return pinned.to(device, non_blocking=True).to(tensor.dtype)

    return Batch(*map(copy, Batch.__dataclass_fields__)).with_counts_of(batch)
