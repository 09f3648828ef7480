"""Deep supervision: many steps on the same data, latents carried from each to the next (TRM, section 2.4).

`Learner.step` takes one offered batch, for all slots or for the halted ones, and makes one training step;
`predict_steps` takes one batch and gives the output of every supervision step.

Shape letters: B batch slots, C cells, S positions, D hidden, I length of an ID vector, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from augment.canvas import fixed_width
from solver.batches import Batch
from solver.ema import MovingAverage
from solver.embedding import IdTable
from solver.loss import Losses, losses
from solver.model import Output, RecursiveModel
from solver.optim import AdamAtan2, scheduled_rate
from solver.recursion import Latents


@dataclass(frozen=True)
class Carry:
    """The batch slots between two steps: latents, the data they work on, steps made, and which are done."""

    latents: Latents
    batch: Batch
    steps_B: Tensor
    halted_B: Tensor


def start_carry(model: RecursiveModel, batch_size: int) -> Carry:
    """Slots that are all halted, so that the first refill fills every one; no cells yet."""
    device = model.h_start.device
    zeros_B = torch.zeros(batch_size, dtype=torch.int64, device=device)
    empty_B0 = zeros_B[:, None][:, :0]
    batch = Batch(empty_B0, empty_B0, empty_B0, zeros_B)
    return Carry(model.initial_latents(batch_size, 0), batch, zeros_B, zeros_B == 0)


def refill(carry: Carry, offered: Batch, model: RecursiveModel) -> Carry:
    """Halted slots take new examples with fresh latents and step 0; the others go on.

    Of as many examples as slots, a halted slot takes the one of its own index, and those offered to running slots are
    discarded. Of as many as halted slots, the first goes to the first of them, and so on.
    """
    if len(offered) != len(carry.batch):
        offered = _spread(offered, carry.halted_B)
    width = max(offered.cells_BS.shape[1], carry.batch.cells_BS.shape[1])
    batch = _choose_rows(carry.halted_B, _pad(offered, width), _pad(carry.batch, width))
    width = min(width, int(fixed_width(_used_width(batch.cells_BS), model.config.board_side)))
    fresh, halted_B11 = model.initial_latents(len(batch), width), carry.halted_B[:, None, None]
    latents = Latents(
        torch.where(halted_B11, fresh.z_h, _resize(carry.latents.z_h, fresh.z_h)),
        torch.where(halted_B11, fresh.z_l, _resize(carry.latents.z_l, fresh.z_l)),
    )
    steps_B = carry.steps_B.masked_fill(carry.halted_B, 0)
    return Carry(latents, _pad(batch, width), steps_B, torch.zeros_like(carry.halted_B))


def _spread(offered: Batch, halted_B: Tensor) -> Batch:
    """One example for each halted slot, put in its row; the other rows are empty."""
    if len(offered) != halted_B.sum():
        raise ValueError(
            f"{len(offered)} examples offered to {len(halted_B)} batch slots, {int(halted_B.sum())} of them halted: "
            "offer one to each slot, or one to each that has halted"
        )

    def spread(rows: Tensor) -> Tensor:
        spread_rows = rows.new_zeros(len(halted_B), *rows.shape[1:])
        spread_rows[halted_B] = rows
        return spread_rows

    return Batch(*(spread(getattr(offered, name)) for name in offered.__dataclass_fields__))


def _pad(batch: Batch, width: int) -> Batch:
    """The batch with `width` columns: cut, or padded with cell -1."""
    more = 0, width - batch.cells_BS.shape[1]
    return replace(
        batch,
        tokens_BS=F.pad(batch.tokens_BS, more),
        labels_BS=F.pad(batch.labels_BS, more),
        cells_BS=F.pad(batch.cells_BS, more, value=-1),
    )


def _resize(latents_BSD: Tensor, fresh_BSD: Tensor) -> Tensor:
    """The latents with as many positions as the fresh ones, which fill what is missing."""
    length = fresh_BSD.shape[1]
    return torch.cat((latents_BSD[:, :length], fresh_BSD[:, latents_BSD.shape[1] :]), dim=1)


def _choose_rows(choice_B: Tensor, new: Batch, old: Batch) -> Batch:
    choice_B1 = choice_B[:, None]
    return Batch(
        torch.where(choice_B1, new.tokens_BS, old.tokens_BS),
        torch.where(choice_B1, new.labels_BS, old.labels_BS),
        torch.where(choice_B1, new.cells_BS, old.cells_BS),
        torch.where(choice_B, new.puzzles_B, old.puzzles_B),
    )


def _used_width(cells_BS: Tensor) -> int:
    return int((cells_BS >= 0).any(0).nonzero().max()) + 1


def minimum_steps(seed: int, step: int, batch_size: int, max_steps: int, probability: float) -> Tensor:
    """Exploration: per slot, with the probability given, a minimum of 2..max_steps steps, else 0.

    A function of its arguments alone; int64, (B,).
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 2]))
    explores_B = rng.random(batch_size) < probability
    return torch.from_numpy(explores_B * rng.integers(min(2, max_steps), max_steps + 1, batch_size))


def halting(steps_B: Tensor, halt_B: Tensor, minimum_B: Tensor, max_steps: int) -> Tensor:
    """Done at max_steps, or when the halting logit is positive and the minimum is reached."""
    return (steps_B >= max_steps) | ((halt_B > 0) & (steps_B >= minimum_B))


@dataclass(frozen=True)
class LearnerConfig:
    """Rates, decays and schedule; the defaults are those published. ema_decay None: no average is kept."""

    lr: float = 1e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    id_lr: float = 1e-2
    id_weight_decay: float = 0.1
    warmup: int = 2000
    total_steps: int = 500_000
    min_ratio: float = 1.0
    ema_decay: float | None = 0.999
    seed: int = 0


@dataclass(frozen=True)
class StepResult:
    """One training step: losses (sums over the slots), and the slots after it.

    halted_B, steps_B, puzzles_B: the slots' state and ID rows; id_gradients_BI: of loss / batch.
    """

    losses: Losses
    output: Output
    halted_B: Tensor
    steps_B: Tensor
    puzzles_B: Tensor
    id_gradients_BI: Tensor


class Learner:
    """A model, its ID table, their optimizers, the moving average and the slots: everything a step changes.

    backward: called with loss / batch; accelerate's in place of torch's where gradients need scaling.
    """

    def __init__(
        self,
        model: RecursiveModel,
        table: IdTable,
        config: LearnerConfig,
        backward: Callable[[Tensor], Any] = torch.Tensor.backward,
    ):
        self.model, self.table, self.config, self.backward = model, table, config, backward
        self.optimizer = AdamAtan2(model.parameters(), config.lr, config.betas, config.weight_decay)
        self.average = None if config.ema_decay is None else MovingAverage(model, config.ema_decay)
        self.carry: Carry | None = None
        self.steps = 0

    def count_free(self, slots: int) -> int:
        """How many of the batch slots take a new example at the next step: all of them at the first."""
        return slots if self.carry is None else int(self.carry.halted_B.sum())

    def step(self, offered: Batch) -> StepResult:
        """One supervision step on the slots, refilled from the offered batch, and one update of all."""
        self.steps += 1
        carry = refill(self.carry or start_carry(self.model, len(offered)), offered, self.model)
        ids_BI = self.table.lookup(carry.batch.puzzles_B)
        output = self.model(carry.latents, carry.batch, ids_BI)
        loss = losses(output, carry.batch.labels_BS)
        self.optimizer.zero_grad()
        self.backward(loss.total / len(carry.batch))
        gradients_BI = ids_BI.grad if ids_BI.grad is not None else torch.zeros_like(ids_BI)
        self._update(carry.batch.puzzles_B, gradients_BI)
        self.carry = self._advance(carry, output)
        return StepResult(
            replace(loss, total=loss.total.detach()),
            replace(output, logits_BCV=output.logits_BCV.detach()),
            self.carry.halted_B,
            self.carry.steps_B,
            carry.batch.puzzles_B,
            gradients_BI,
        )

    def _update(self, puzzles_B: Tensor, gradients_BI: Tensor) -> None:
        """The ID table first, then the weights, then their average; both rates follow the schedule."""
        config = self.config
        id_lr, lr = (
            scheduled_rate(self.steps, base, config.warmup, config.total_steps, config.min_ratio)
            for base in (config.id_lr, config.lr)
        )
        self.table.sign_sgd_(puzzles_B, gradients_BI, id_lr, config.id_weight_decay)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if self.average is not None:
            self.average.update()

    def _advance(self, carry: Carry, output: Output) -> Carry:
        """The slots after a step: new latents, one more step, halted or not."""
        config, steps_B = self.model.config, carry.steps_B + 1
        minimum_B = minimum_steps(self.config.seed, self.steps, len(steps_B), config.max_steps, config.exploration).to(
            steps_B.device
        )
        halted_B = halting(steps_B, output.halt_B.detach(), minimum_B, config.max_steps)
        return Carry(output.latents, carry.batch, steps_B, halted_B)


def last_output(outputs: Iterator[Output]) -> Output:
    """The last of several outputs; those before it are not kept, latents are large."""
    for output in outputs:  # noqa: B007
        pass
    return output  # pyright: ignore[reportPossiblyUnboundVariable]


@torch.no_grad()
def predict_steps(model: RecursiveModel, table: IdTable, batch: Batch, steps: int | None = None) -> Iterator[Output]:
    """The output of each supervision step from fresh latents, without halting; `steps` None: max_steps."""
    ids_BI = table.lookup(batch.puzzles_B)
    latents = model.initial_latents(len(batch), batch.cells_BS.shape[1])
    for _ in range(steps or model.config.max_steps):
        output = model(latents, batch, ids_BI)
        latents = output.latents
        yield output
