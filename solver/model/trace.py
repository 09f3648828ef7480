"""How the recursion goes: what each latent holds after a supervision step, how far it moves at each update.

In: the updates of `solver.model.recursion` as they are made, the outputs of
`solver.training.deep_supervision.predict_steps`. Out: `LatentTrace` arrays of a few examples, or the `Movement` of a
whole batch.

Shape letters: E examples followed, T supervision steps, C cells, S positions, P positions in use, D hidden.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.data.batches import Batch
from solver.model.model import RecursiveModel
from solver.model.output import Output


class Movement:
    """How far the latents of a batch move at each update of one supervision step: |new - old| / |new|.

    It is a `solver.model.recursion.Watch`. Batches in several parts are added up: `begin` before each.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._squares: dict[str, list[Tensor]] = {}
        """by latent, for each of its updates: sums of squares of the difference and of the new value"""
        self._made: dict[str, int] = {}

    def begin(self) -> None:
        """The next update is the first of a supervision step."""
        self._made = dict.fromkeys(self._made, 0)

    def __call__(self, latent: str, old: Tensor, new: Tensor) -> None:
        """One update."""
        number = self._made.get(latent, 0)
        known = self._squares.setdefault(latent, [])
        squares = torch.stack([z.float().square().sum(dtype=torch.float64) for z in (new - old, new)])
        if number == len(known):
            known.append(squares)
        else:
            known[number] = known[number] + squares
        self._made[latent] = number + 1

    @property
    def squares(self) -> dict[str, Tensor]:
        """By latent, float64 (updates, 2): sums of squares of the difference and of the new value."""
        return {latent: torch.stack(known) for latent, known in self._squares.items()}


def relative(squares: Tensor) -> list[float]:
    """|new - old| / |new| of each update, from sums of squares (updates, 2)."""
    return (squares[:, 0] / squares[:, 1]).sqrt().tolist()


@dataclass(frozen=True, eq=False)
class LatentTrace:
    """One example. answer, reasoning: uint8 (T, C), the likeliest tokens that the output head reads from the latents.

    The reasoning is that of the latent updated last before the answer; (T, 0) where there is none.
    answer_moved, reasoning_moved: float32 (T, updates), |new - old| / |new| over the positions in use at each update of
    the answer, and of any other latent, in order; halting: float32 (T,), halting probability.
    """

    answer: NDArray[np.uint8]
    reasoning: NDArray[np.uint8]
    answer_moved: NDArray[np.float32]
    reasoning_moved: NDArray[np.float32]
    halting: NDArray[np.float32]


@dataclass
class _Step:
    """What is seen of a supervision step so far: how far the answer and the others moved, each (E,)."""

    answer: list[Tensor] = field(default_factory=list)
    others: list[Tensor] = field(default_factory=list)


class TraceRecorder:
    """Follows the examples `rows` of a batch: `watch` sees every update, and `add` takes every step's output."""

    def __init__(self, model: RecursiveModel, batch: Batch, rows: NDArray[np.integer]):
        self._model = model
        self._count = len(rows)
        if not self._count:
            return
        device = batch.cells_BS.device
        recursion = model.config.recursion
        self._answer = recursion.answer
        self._reasoning = next((name for name in reversed(recursion.latents) if name != self._answer), None)
        self._rows_E = torch.from_numpy(rows).to(device)
        places_B = torch.full((len(batch),), -1, device=device)
        places_B[self._rows_E] = torch.arange(self._count, device=device)
        self._symbols_EV = batch.symbols_BV[self._rows_E]
        padding = model.layout(batch).padding
        places_P = padding.pack(places_B.view(-1, *[1] * (len(padding.shape) - 1)).expand(padding.shape))
        self._followed = (places_P >= 0).nonzero()[:, 0]
        self._places_P = places_P[self._followed]
        self._step = _Step()
        self._steps = []

    def watch(self, latent: str, old: Tensor, new: Tensor) -> None:
        """One update of a latent, (positions in use of the batch, D)."""
        if not self._count:
            return
        old_PD, new_PD = (z[self._followed].float() for z in (old, new))
        squares_E2 = old_PD.new_zeros(self._count, 2)
        squares_P2 = torch.stack([(new_PD - old_PD).square().sum(1), new_PD.square().sum(1)], dim=1)
        moved_E = squares_E2.index_add_(0, self._places_P, squares_P2).sqrt()
        (self._step.answer if latent == self._answer else self._step.others).append(moved_E[:, 0] / moved_E[:, 1])

    def add(self, output: Output) -> None:
        """The supervision step is done."""
        if not self._count:
            return
        shown = [output.latents[name][self._rows_E] for name in (self._answer, self._reasoning) if name]
        tokens = [self._model.read_cells(z_ESD, self._symbols_EV).argmax(-1).to(torch.uint8) for z_ESD in shown]
        tokens += [tokens[0][:, :0]] * (2 - len(tokens))
        nothing_E0 = output.halt_B.new_zeros(self._count, 0)
        moved = [torch.stack(each, 1) if each else nothing_E0 for each in (self._step.answer, self._step.others)]
        halting_E = output.halt_B[self._rows_E].float().sigmoid()
        self._steps.append(tuple(value.cpu() for value in (*tokens, *moved, halting_E)))
        self._step = _Step()

    def examples(self) -> list[LatentTrace]:
        """What was seen of each example, in their order."""
        if not self._count:
            return []
        columns = [torch.stack(column, dim=1).numpy() for column in zip(*self._steps, strict=True)]
        return [LatentTrace(*(column[place] for column in columns)) for place in range(self._count)]
