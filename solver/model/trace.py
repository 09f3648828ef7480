"""Tracing of the recursion: the tokens in each latent after a supervision step, and its relative change per update.

The recorders receive the updates of `solver.model.recursion` as callbacks, and the outputs of
`solver.training.deep_supervision.predict_steps`. `TraceRecorder` makes `LatentTrace` arrays for a few examples;
`Movement` sums over a whole batch.

Shape letters: E examples followed, T supervision steps, C cells, S positions, P positions in use, D hidden.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.data.batch import Batch
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.packing import Layout
from solver.model.step_records import StepRecords
from solver.model.symbol_axis import SymbolLayout


class Movement:
    """Relative change of the latents of a batch in each update of one supervision step: |new - old| / |new|.

    It is a `solver.model.recursion.Watch`. The parts of a batch that runs in several are summed: call `begin` before
    each part.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove all sums."""
        self._squares: dict[str, list[Tensor]] = {}
        """by latent, for each of its updates: sums of squares of the difference and of the new value"""
        self._counts: dict[str, int] = {}
        """by latent: number of its updates since `begin`"""

    def begin(self) -> None:
        """Start a supervision step: the next update of each latent is its first."""
        self._counts = dict.fromkeys(self._counts, 0)

    def __call__(self, latent: str, old: Tensor, new: Tensor) -> None:
        """Add the squares of one update."""
        number = self._counts.get(latent, 0)
        totals = self._squares.setdefault(latent, [])
        squares = torch.stack([z.float().square().sum(dtype=torch.float64) for z in (new - old, new)])
        if number == len(totals):
            totals.append(squares)
        else:
            totals[number] = totals[number] + squares
        self._counts[latent] = number + 1

    @property
    def squares(self) -> dict[str, Tensor]:
        """Sums of squares of the difference and of the new value by latent, float64 (updates, 2)."""
        return {latent: torch.stack(totals) for latent, totals in self._squares.items()}


def relative(squares: Tensor) -> list[float]:
    """Return |new - old| / |new| of each update, from sums of squares (updates, 2)."""
    return (squares[:, 0] / squares[:, 1]).sqrt().tolist()


@dataclass(frozen=True, eq=False)
class LatentTrace:
    """The trace of one example.

    answer: uint8 (T, C), the most likely tokens that the output head reads from the answer
    reasoning: uint8 (T, C), the same for the latent updated last before the answer; (T, 0) if there is none
    answer_moved: float32 (T, updates), |new - old| / |new| over the positions in use, for each update of the answer
    reasoning_moved: float32 (T, updates), the same for the updates of all other latents, in order
    halting: float32 (T,), the halting probability
    """

    answer: NDArray[np.uint8]
    reasoning: NDArray[np.uint8]
    answer_moved: NDArray[np.float32]
    reasoning_moved: NDArray[np.float32]
    halting: NDArray[np.float32]


@dataclass
class _Step:
    """Relative changes (E,) of the answer and of the other latents in the current supervision step."""

    answer: list[Tensor] = field(default_factory=list)
    others: list[Tensor] = field(default_factory=list)


class TraceRecorder:
    """Records the examples `rows` of a batch.

    Pass `watch` to the model as its callback, and call `add` with the output of every supervision step. What is
    recorded stays on the device until `examples` copies it.

    Args:
        model: the model.
        batch: the examples.
        rows: which of them are recorded.
        layout: the layout of the batch, if it is already computed.
    """

    def __init__(
        self,
        model: RecursiveModel,
        batch: Batch,
        rows: NDArray[np.integer],
        layout: Layout | SymbolLayout | None = None,
    ):
        self._model = model
        self._batch = batch
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
        self._layout = layout or model.layout(batch)
        padding = self._layout.padding
        places_P = padding.pack(places_B.view(-1, *[1] * (len(padding.shape) - 1)).expand(padding.shape))
        self._followed = (places_P >= 0).nonzero()[:, 0]
        self._places_P = places_P[self._followed]
        self._step = _Step()
        self._records = StepRecords()

    def watch(self, latent: str, old: Tensor, new: Tensor) -> None:
        """Record one update of a latent, (positions in use of the batch, D)."""
        if not self._count:
            return
        old_PD, new_PD = (z[self._followed].float() for z in (old, new))
        squares_E2 = old_PD.new_zeros(self._count, 2)
        squares_P2 = torch.stack([(new_PD - old_PD).square().sum(1), new_PD.square().sum(1)], dim=1)
        norms_E = squares_E2.index_add_(0, self._places_P, squares_P2).sqrt()
        (self._step.answer if latent == self._answer else self._step.others).append(norms_E[:, 0] / norms_E[:, 1])

    @torch.no_grad()
    def add(self, output: Output) -> None:
        """Finish a supervision step with its output."""
        if not self._count:
            return
        logits = [output.logits_BCV]
        if self._reasoning:
            logits.append(self._model.read_cells(output.latents[self._reasoning], self._batch, self._layout))
        tokens = [logits_BCV[self._rows_E].argmax(-1).to(torch.uint8) for logits_BCV in logits]
        tokens += [tokens[0][:, :0]] * (2 - len(tokens))
        empty_E0 = output.halt_B.new_zeros(self._count, 0)
        updates = self._step.answer, self._step.others
        changes = [torch.stack(columns, 1) if columns else empty_E0 for columns in updates]
        halting_E = output.halt_B[self._rows_E].float().sigmoid()
        self._records.add((*tokens, *changes, halting_E))
        self._step = _Step()

    def examples(self) -> list[LatentTrace]:
        """Return the trace of each example, in the order of `rows`."""
        if not self._count:
            return []
        columns = self._records.stacked()
        return [LatentTrace(*(column[place] for column in columns)) for place in range(self._count)]
