"""Micro-batches: splitting the batch slots into chunks that fit into memory, and joining the results.

Shape letters: B batch slots, I length of an ID vector.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from solver.model.output import Output
from solver.model.packing import consecutive, first_rows
from solver.training.deep_supervision import Carry
from solver.training.device_memory import MEMORY_ERRORS, DeviceMemory, free_memory, ran_out_of_memory
from solver.training.loss import Losses
from solver.training.position_limit import PositionLimit, reduce_size

TRIAL_BOARDS = 8
"""The chunk that measures memory has at most as many positions as this number of full boards."""
FREE_SHARE = 0.8
"""Share of the free memory that a chunk may take, as expected from a measured smaller one. The rest is for the outputs
of earlier chunks, for sums of gradients, and for fragments."""


@dataclass(frozen=True)
class Chunk:
    """The result of forward and backward on some of the slots; everything is detached.

    id_gradients_BI: gradients of the slots' ID vectors
    """

    losses: Losses
    output: Output
    id_gradients_BI: Tensor


def make_chunk(loss: Losses, output: Output, ids_BI: Tensor) -> Chunk:
    """Return the result of a chunk after its backward pass, with the gradients collected in `ids_BI`.

    All is detached, so that a stored chunk does not refer to its graph while the next chunk runs.
    """
    names = ("logits_BCV", "halt_B", "continue_B", "value_B")
    logits = {name: getattr(output, name).detach() for name in names}
    output = replace(output, **logits, kl_B2=None, prior_logits_BCV=None)
    gradients_BI = ids_BI.grad if ids_BI.grad is not None else torch.zeros_like(ids_BI)
    return Chunk(replace(loss, total=loss.total.detach()), output, gradients_BI)


SUMS = ("total", "cells", "halting", "continuing", "value", "kl")
"""The fields of `Losses` that are sums over examples."""


def cut_slots(lengths_B: np.ndarray, most: int | None) -> list[np.ndarray]:
    """Split the slots into chunks of at most `most` positions, longest slots first.

    A slot with more positions is a chunk of its own. If all slots fit into one chunk, they keep their order.

    Args:
        lengths_B: number of positions that each slot uses.
        most: the maximum; None: no limit.

    Returns:
        The slots of each chunk.
    """
    if most is None or lengths_B.sum() <= most:
        return [np.arange(len(lengths_B))]
    # Sorted, so that the slots of a chunk have similar lengths and need little padding.
    order = np.argsort(-lengths_B, kind="stable")
    chunks = []
    used = most + 1
    for slot in order:
        used += lengths_B[slot]
        if used > most:
            chunks.append([])
            used = lengths_B[slot]
        chunks[-1].append(slot)
    return [np.array(chunk) for chunk in chunks]


def join_chunks(chunks: Sequence[Chunk], rows: Sequence[np.ndarray], carry: Carry) -> Chunk:
    """Join the chunks, whose slots are `rows`: slots in their original order, cells padded to those of the carry."""
    if len(chunks) == 1 and len(rows[0]) == len(carry.batch):
        return chunks[0]
    device = carry.steps_B.device
    order_B = np.argsort(np.concatenate(rows))
    starts_B = first_rows(carry.rows_B[np.concatenate(rows)])[order_B]
    order_R = consecutive(starts_B, carry.rows_B, device)
    order = torch.from_numpy(order_B).to(device)
    cells = carry.batch.cells_BS.shape[1]
    parts = [chunk.losses for chunk in chunks]
    outputs = [chunk.output for chunk in chunks]

    def join(tensors: Iterable[Tensor], width: int | None = None) -> Tensor:
        padded = [tensor if width is None else F.pad(tensor, (0, 0, 0, width - tensor.shape[1])) for tensor in tensors]
        return torch.cat(padded)[order]

    def total(tensors: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(tensors)).sum(0)

    return Chunk(
        Losses(
            *(total(getattr(part, name) for part in parts) for name in SUMS),
            *(join(getattr(part, name) for part in parts) for name in ("exact_B", "correct_B", "labelled_B")),
        ),
        Output(
            {name: torch.cat([out.latents[name] for out in outputs])[order_R] for name in carry.latents},
            join((out.logits_BCV for out in outputs), cells),
            join(out.halt_B for out in outputs),
            join(out.continue_B for out in outputs),
            join(out.value_B for out in outputs),
            figures={name: join(out.figures[name] for out in outputs) for name in outputs[0].figures},
        ),
        join(chunk.id_gradients_BI for chunk in chunks),
    )


@dataclass(frozen=True)
class SlotWork:
    """The forward and backward pass of a step, which may be attempted several times and in parts.

    Attributes:
        lengths_B: number of positions that each slot uses.
        run: runs the given slots, and adds to the gradients of the weights; it may run out of memory.
        clear: removes the gradients of an attempt.
    """

    lengths_B: np.ndarray
    run: Callable[[np.ndarray], Chunk]
    clear: Callable[[], None]


def run_in_chunks(carry: Carry, work: SlotWork, limit: PositionLimit) -> Chunk:
    """Run all slots of the carry in chunks within the limit; if memory runs out, lower the limit and begin again.

    Raises:
        RuntimeError, MemoryError: as `work.run` raises them, if every chunk is a single slot, or if the reason is not
            memory.
    """
    while True:
        work.clear()
        rows_of_chunks = cut_slots(work.lengths_B, limit.most)
        chunks = []
        try:
            for rows in rows_of_chunks:
                chunks.append(work.run(rows))
            return join_chunks(chunks, rows_of_chunks, carry)
        except MEMORY_ERRORS as error:
            # A chunk of a single slot cannot be split any further.
            sizes = [int(work.lengths_B[rows].sum()) for rows in rows_of_chunks if len(rows) > 1]
            if not ran_out_of_memory(error) or not sizes:
                raise
        # Outside the except clause, because the exception's traceback keeps the failed attempt's tensors alive.
        limit.lower(max(sizes))
        chunks.clear()
        free_memory()


def measure_limit(limit: PositionLimit, work: SlotWork, board: int, memory: DeviceMemory | None, kind: Any) -> None:
    """Set the limit to what fits in the memory that is free now, as measured with a small chunk.

    The gradients are removed afterwards. Nothing is done on a device whose memory is not measured, if the limit was
    measured for the same kind of step, or if all slots are one small chunk.

    Args:
        limit: changed in place.
        work: the step.
        board: number of positions of a full board.
        memory: of the device; None if it is not measured.
        kind: what decides how much memory a position takes.
    """
    if memory is None or limit.measured_for == kind:
        return
    rows = cut_slots(work.lengths_B, min(TRIAL_BOARDS * board, limit.most or TRIAL_BOARDS * board))[0]
    if len(rows) == len(work.lengths_B):
        return
    size = int(work.lengths_B[rows].sum())
    taken = _measure_chunk(rows, work, memory)
    work.clear()
    free_memory()
    limit.measure(reduce_size(size) if taken is None else int(FREE_SHARE * memory.free() * size / max(1, taken)), kind)


def _measure_chunk(rows: np.ndarray, work: SlotWork, memory: DeviceMemory) -> int | None:
    """Return how many bytes the slots take at the peak, None if memory ran out. Torch's random state is restored.

    They run twice, and the second run is measured: the first one also makes what is kept for later steps, such as
    compiled code and the workspaces of libraries.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            for _ in range(2):
                work.clear()
                before = memory.allocated()
                work.run(rows)
            return memory.peak() - before
    except MEMORY_ERRORS as error:
        if not ran_out_of_memory(error):
            raise
        return None
