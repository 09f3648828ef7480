"""The recursion on a few examples of a batch: what each latent holds after every supervision step, how far it moved.

In: the outputs of `solver.supervision.predict_steps`, one after the other. Out: `Traced` arrays of each example.

Shape letters: E examples followed, T supervision steps, C cells, S positions, D hidden.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.batches import Batch
from solver.model import Output, RecursiveModel
from solver.recursion import Latents
from solver.supervision import positions_in_use


@dataclass(frozen=True, eq=False)
class Traced:
    """One example. answer, reasoning: uint8 (T, C), the likeliest tokens that the output head reads from z_h and z_l.

    answer_moved, reasoning_moved: float32 (T,), |z_t - z_(t-1)| / |z_t| over the positions in use, z_0 being where the
    latent started; halting: float32 (T,), halting probability.
    """

    answer: NDArray[np.uint8]
    reasoning: NDArray[np.uint8]
    answer_moved: NDArray[np.float32]
    reasoning_moved: NDArray[np.float32]
    halting: NDArray[np.float32]


class Trace:
    """Follows the examples `rows` of a batch; `add` takes every step's output."""

    def __init__(self, model: RecursiveModel, batch: Batch, rows: NDArray[np.integer]):
        self._model, self._rows_E = model, torch.from_numpy(rows).to(batch.cells_BS.device)
        self._used_ES1 = positions_in_use(batch.cells_BS[self._rows_E], model)[..., None]
        self._latents = model.initial_latents(len(rows), batch.cells_BS.shape[1])
        self._steps: list[tuple[Tensor, ...]] = []

    def add(self, output: Output) -> None:
        """One supervision step."""
        if not len(self._rows_E):
            return
        new = Latents(output.latents.z_h[self._rows_E], output.latents.z_l[self._rows_E])
        tokens = (self._model.read_cells(z_ESD).argmax(-1).to(torch.uint8) for z_ESD in (new.z_h, new.z_l))
        moved = self._moved(self._latents.z_h, new.z_h), self._moved(self._latents.z_l, new.z_l)
        halting_E = output.halt_B[self._rows_E].float().sigmoid()
        self._steps.append(tuple(value.cpu() for value in (*tokens, *moved, halting_E)))
        self._latents = new

    def _moved(self, old_ESD: Tensor, new_ESD: Tensor) -> Tensor:
        old_ESD, new_ESD = (z_ESD.float() * self._used_ES1 for z_ESD in (old_ESD, new_ESD))
        return (new_ESD - old_ESD).flatten(1).norm(dim=1) / new_ESD.flatten(1).norm(dim=1)

    def examples(self) -> list[Traced]:
        """What was seen of each example, in their order."""
        columns = [torch.stack(column, dim=1).numpy() for column in zip(*self._steps, strict=True)]
        return [Traced(*(column[place] for column in columns)) for place in range(len(self._rows_E))]
