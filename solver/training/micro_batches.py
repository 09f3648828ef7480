"""Micro-batches: splitting the batch slots into chunks that fit into memory, and joining the results.

Shape letters: B batch slots, I length of an ID vector.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from solver.model.output import Output
from solver.training.deep_supervision import Carry
from solver.training.loss import Losses


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
    """Join the chunks, whose slots are `rows`: slots in their original order, padded to the width of the carry."""
    if len(chunks) == 1 and len(rows[0]) == len(carry.batch):
        return chunks[0]
    order = torch.from_numpy(np.argsort(np.concatenate(rows))).to(carry.steps_B.device)
    positions = {name: z.shape[1] for name, z in carry.latents.items()}
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
            {name: join((out.latents[name] for out in outputs), width) for name, width in positions.items()},
            join((out.logits_BCV for out in outputs), cells),
            join(out.halt_B for out in outputs),
            join(out.continue_B for out in outputs),
            join(out.value_B for out in outputs),
            figures={name: join(out.figures[name] for out in outputs) for name in outputs[0].figures},
        ),
        join(chunk.id_gradients_BI for chunk in chunks),
    )


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that the device or the host ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def free_memory() -> None:
    """Release the memory of a failed attempt, including torch's cached GPU blocks."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
