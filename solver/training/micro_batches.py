"""Slots in chunks: which run together, and what all of them gave.

Shape letters: B batch slots, I length of an ID vector.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from solver.model.output import Output
from solver.training.deep_supervision import Carry
from solver.training.loss import Losses


@dataclass(frozen=True)
class Chunk:
    """What forward and backward of some slots gave; everything is detached."""

    losses: Losses
    output: Output
    id_gradients_BI: Tensor


SUMS = ("total", "cells", "halting", "continuing", "value", "kl")
"""What of the losses is a sum over examples."""


def cut_slots(lengths_B: np.ndarray, most: int | None) -> list[np.ndarray]:
    """The slots in chunks of at most `most` positions, longest first, or one by one where a slot alone has more.

    lengths_B: positions that each slot uses. All slots in their own order where they fit into one chunk.
    """
    if most is None or lengths_B.sum() <= most:
        return [np.arange(len(lengths_B))]
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
    """The chunks as one, with the slots in their own order and as wide as the carry."""
    if len(chunks) == 1 and len(rows[0]) == len(carry.batch):
        return chunks[0]
    order = torch.from_numpy(np.argsort(np.concatenate(rows))).to(carry.steps_B.device)
    positions = {name: z.shape[1] for name, z in carry.latents.items()}
    cells = carry.batch.cells_BS.shape[1]
    parts = [chunk.losses for chunk in chunks]
    outputs = [chunk.output for chunk in chunks]

    def joined(tensors: Iterable[Tensor], width: int | None = None) -> Tensor:
        wide = [tensor if width is None else F.pad(tensor, (0, 0, 0, width - tensor.shape[1])) for tensor in tensors]
        return torch.cat(wide)[order]

    def total(tensors: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(tensors)).sum(0)

    return Chunk(
        Losses(
            *(total(getattr(part, name) for part in parts) for name in SUMS),
            *(joined(getattr(part, name) for part in parts) for name in ("exact_B", "correct_B", "labelled_B")),
        ),
        Output(
            {name: joined((out.latents[name] for out in outputs), width) for name, width in positions.items()},
            joined((out.logits_BCV for out in outputs), cells),
            joined(out.halt_B for out in outputs),
            joined(out.continue_B for out in outputs),
            joined(out.value_B for out in outputs),
            figures={name: joined(out.figures[name] for out in outputs) for name in outputs[0].figures},
        ),
        joined(chunk.id_gradients_BI for chunk in chunks),
    )


def ran_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine itself, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def free_memory() -> None:
    """Give back what a failed attempt has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
