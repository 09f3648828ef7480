"""Deep supervision: repeated supervision steps on the same data, with latents carried over (TRM, section 2.4).

A carry is the state of the batch slots between two optimizer steps (`solver.training.learner`). `refill` gives new
examples to halted slots, and `advance` decides which slots halt. `predict_steps` yields the output of every supervision
step on one batch.

Latents are stored packed: one row for each position in use of each slot, in the order of the slots.

Shape letters: B batch slots, C cells, R positions in use of all slots, D hidden, I length of an ID
vector, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment.canvas import fixed_width
from solver.data.batch import Batch
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource
from solver.model.output import Output
from solver.model.packing import Layout, consecutive, first_rows
from solver.model.positions import rows_of
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.recursion import Latents, Watch
from solver.model.symbol_axis import SymbolLayout


@dataclass(frozen=True)
class Carry:
    """The batch slots between two optimizer steps.

    latents: (R, D) by name
    batch: the examples in the slots
    steps_B: int64, supervision steps done on the slot's example
    halted_B: bool, whether the slot takes a new example at the next step
    rows_B: number of rows that each slot has in a latent, in main memory
    """

    latents: Latents
    batch: Batch
    steps_B: Tensor
    halted_B: Tensor
    rows_B: NDArray[np.int64]

    def take(self, rows: np.ndarray) -> "Carry":
        """Return the given slots, cut to the width they use; if they are as many as all slots, the carry itself."""
        if len(rows) == len(self.batch):
            return self
        indices = torch.from_numpy(rows).to(self.steps_B.device)
        rows_B = self.rows_B[rows]
        rows_R = consecutive(first_rows(self.rows_B)[rows], rows_B, self.steps_B.device)
        latents = {name: z_RD.index_select(0, rows_R) for name, z_RD in self.latents.items()}
        return Carry(latents, self.batch.take(rows), self.steps_B[indices], self.halted_B[indices], rows_B)


def start_carry(model: RecursiveModel, batch_size: int) -> Carry:
    """Return slots without cells that are all halted, so that the first refill fills every one."""
    device = model.device
    zeros_B = torch.zeros(batch_size, dtype=torch.int64, device=device)
    empty_B0 = zeros_B[:, None][:, :0]
    batch = Batch(empty_B0, empty_B0, empty_B0, zeros_B)
    return Carry(model.initial_latents(batch), batch, zeros_B, zeros_B == 0, rows_of(model.config, batch))


def refill(carry: Carry, offered: Batch, model: RecursiveModel) -> Carry:
    """Give new examples, with initial latents and step 0, to the halted slots; the other slots continue.

    If there are as many examples as slots, a halted slot takes the one at its own index, and the rest are discarded. If
    there are as many examples as halted slots, the halted slots take them in order.

    Raises:
        ValueError: if the number of examples is neither.
    """
    if len(offered) != len(carry.batch):
        offered = _spread(offered, carry.halted_B)
    width = max(offered.cells_BS.shape[1], carry.batch.cells_BS.shape[1])
    batch = _choose_rows(carry.halted_B, offered.padded(width), carry.batch.padded(width))
    width = min(width, int(fixed_width(batch.used_width(), model.config.board_side)))
    batch = batch.padded(width)
    rows_B = rows_of(model.config, batch)
    latents = _keep_rows(carry, model.initial_latents(batch), rows_B)
    steps_B = carry.steps_B.masked_fill(carry.halted_B, 0)
    return Carry(latents, batch, steps_B, torch.zeros_like(carry.halted_B), rows_B)


def _keep_rows(carry: Carry, initial: Latents, rows_B: NDArray[np.int64]) -> Latents:
    """Return the latents of the refilled slots, `rows_B` rows each: initial rows in halted slots, else the old ones."""
    old_total, total = int(carry.rows_B.sum()), int(rows_B.sum())
    if not old_total:
        return initial
    device = carry.halted_B.device
    # A slot that goes on has as many rows as before. The rows read for a halted slot are not used, so any will do.
    old_R = consecutive(first_rows(carry.rows_B), rows_B, device).clamp_(max=old_total - 1)
    is_new_R = carry.halted_B.repeat_interleave(torch.from_numpy(rows_B).to(device), output_size=total)
    return {
        name: torch.where(is_new_R[:, None], start_RD, carry.latents[name].index_select(0, old_R))
        for name, start_RD in initial.items()
    }


def _spread(offered: Batch, halted_B: Tensor) -> Batch:
    """Move the examples, one for each halted slot, to the rows of these slots; the other rows are zero."""
    if len(offered) != halted_B.sum():
        raise ValueError(
            f"{len(offered)} examples offered to {len(halted_B)} batch slots, {int(halted_B.sum())} of them halted: "
            "offer one example for each slot, or one for each halted slot"
        )

    def spread(rows: Tensor) -> Tensor:
        spread_rows = rows.new_zeros(len(halted_B), *rows.shape[1:])
        spread_rows[halted_B] = rows
        return spread_rows

    return Batch(*(spread(getattr(offered, name)) for name in offered.__dataclass_fields__))


def _choose_rows(choice_B: Tensor, new: Batch, old: Batch) -> Batch:
    def choose(name: str) -> Tensor:
        new_values = getattr(new, name)
        old_values = getattr(old, name)
        return torch.where(choice_B.view(-1, *[1] * (new_values.ndim - 1)), new_values, old_values)

    return Batch(*map(choose, Batch.__dataclass_fields__))


def carry_tensors(carry: Carry) -> dict[str, Tensor]:
    """Return the slots as named tensors."""
    batch = {name.rpartition("_")[0]: getattr(carry.batch, name) for name in carry.batch.__dataclass_fields__}
    return batch | carry.latents | {"steps": carry.steps_B, "halted": carry.halted_B}


def join_carry(parts: Sequence[dict[str, Tensor]], model: RecursiveModel, own: slice) -> Carry:
    """Join saved slots (`carry_tensors`) in the given order, and return those of them that `own` selects."""
    device = model.device
    width = max(part["cells"].shape[1] for part in parts)

    def join(name: str) -> Tensor:
        return torch.cat([part[name] for part in parts]).to(device)

    names = Batch.__dataclass_fields__
    # Slots saved before a field was added do not have it.
    batches = [Batch(*(part.get(name.rpartition("_")[0]) for name in names)).padded(width) for part in parts]  # pyright: ignore[reportArgumentType]
    batch = Batch(*(torch.cat([getattr(part, name) for part in batches]).to(device) for name in names))
    rows_B = rows_of(model.config, batch)
    starts = first_rows(np.append(rows_B, 0))
    own_rows = slice(starts[own.start], starts[own.stop])
    latents = {name: join(name).to(model.precision)[own_rows] for name in model.config.recursion.latents}
    own_batch = batch.each(lambda tensor: tensor[own])
    return Carry(latents, own_batch, join("steps")[own], join("halted")[own], rows_B[own])


def minimum_steps(seed: int, step: int, batch_size: int, max_steps: int, probability: float) -> Tensor:
    """Draw the minimum of supervision steps of each slot: 2..max_steps with the given probability, else 0.

    The result, int64 (B,), is a pure function of the arguments.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 2]))
    explores_B = rng.random(batch_size) < probability
    return torch.from_numpy(explores_B * rng.integers(min(2, max_steps), max_steps + 1, batch_size))


def draw_random_halts(seed: int, step: int, batch_size: int, probability: float) -> Tensor:
    """Draw which slots halt after this step, each with the given probability (SE-RRM): bool, (B,).

    The result does not depend on the predictions; it is a pure function of the arguments.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 6]))
    return torch.from_numpy(rng.random(batch_size) < probability)


def halting(steps_B: Tensor, margin_B: Tensor, minimum_B: Tensor, max_steps: int) -> Tensor:
    """Return which slots halt: those at max_steps, and those with a positive margin that have reached their minimum.

    margin_B: the halting logit; with Q-learning, minus the continue logit
    """
    return (steps_B >= max_steps) | ((margin_B > 0) & (steps_B >= minimum_B))


def advance(
    carry: Carry, output: Output, config: ModelConfig, key: tuple[int, int], batch_size: int, own: slice
) -> Carry:
    """Return the slots after a supervision step: new latents, one more step, and which of them have halted.

    Args:
        carry: the slots of this process before the step.
        output: the output of the step.
        config: the model's config, whose halting rule applies.
        key: (seed, step), which the random draws depend on.
        batch_size: slots of all processes.
        own: the slots of this process among them.
    """
    steps_B = carry.steps_B + 1
    # Drawn for the global batch and then sliced, so that the draws do not depend on the number of processes.
    if config.halting == "random":
        drawn_B = draw_random_halts(*key, batch_size, config.exploration)
        own_B = drawn_B[own].to(steps_B.device)
        ends_B = own_B | (steps_B >= config.max_steps)
        return Carry(output.latents, carry.batch, steps_B, ends_B, carry.rows_B)
    minimum_B = minimum_steps(*key, batch_size, config.max_steps, config.exploration)
    own_B = minimum_B[own].to(steps_B.device)
    margin_B = output.halt_B - output.continue_B if config.halting == "q_learning" else output.halt_B
    halted_B = halting(steps_B, margin_B, own_B, config.max_steps)
    return Carry(output.latents, carry.batch, steps_B, halted_B, carry.rows_B)


@torch.no_grad()
def continue_target(after: Output, steps_B: Tensor, max_steps: int) -> Tensor:
    """Return the target of the continue logit, (B,): the better of the next step's two values (HRM, section 2).

    The values are the probabilities that the prediction is right after halting or after continuing.

    Args:
        after: the output of the next supervision step.
        steps_B: supervision steps done before it. If it is the last one, only its halting logit counts.
        max_steps: the maximum number of supervision steps.
    """
    best_B = torch.where(steps_B >= max_steps, after.halt_B, torch.maximum(after.halt_B, after.continue_B))
    return best_B.sigmoid()


def last_output(outputs: Iterator[Output]) -> Output:
    """Return the last output of an iterator without storing the earlier ones, whose latents are large."""
    for output in outputs:  # noqa: B007
        pass
    return output  # pyright: ignore[reportPossiblyUnboundVariable]


@torch.no_grad()
def predict_steps(
    model: RecursiveModel,
    table: PuzzleEmbedding,
    batch: Batch,
    steps: int | None = None,
    chance: NoiseSource | None = None,
    watch: Watch | None = None,
    layout: Layout | SymbolLayout | None = None,
) -> Iterator[Output]:
    """Yield the output of each supervision step, starting from the initial latents, without halting.

    Args:
        model: the model.
        table: the puzzle-embedding table.
        batch: the examples.
        steps: number of supervision steps; None: the model's max_steps.
        chance: the noise source; None: no noise between steps, and the mean of the noise in equations.
        watch: a callback that receives every update of a latent.
        layout: the layout of the batch, if it is already computed.
    """
    ids_BI = table.lookup(batch.puzzles_B)
    layout = layout or model.layout(batch)
    latents = model.initial_latents(batch)
    for step in range(1, 1 + (steps or model.config.max_steps)):
        noise_source = None if chance is None else chance.at(step)
        latents = latents if noise_source is None else noise_source.disturb(latents, layout.rows)
        output = model(latents, batch, ids_BI, layout, watch=watch, chance=noise_source)
        latents = output.latents
        yield output
