"""Deep supervision: many steps on the same data, latents carried from each to the next (TRM, section 2.4).

A carry holds the batch slots between two training steps (`solver.training.learner`), `refill` gives halted ones new
examples, and `predict_steps` takes one batch and gives the output of every supervision step.

Shape letters: B batch slots, C cells, S positions, D hidden, I length of an ID vector, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from augment.canvas import fixed_width
from solver.data.batches import Batch
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.recursion import Latents, Watch


@dataclass(frozen=True)
class Carry:
    """The batch slots between two steps: latents, the data they work on, steps made, and which are done."""

    latents: Latents
    batch: Batch
    steps_B: Tensor
    halted_B: Tensor

    def take(self, rows: np.ndarray) -> "Carry":
        """Some of the slots, no wider than they need; all of them in order are the carry itself."""
        if len(rows) == len(self.batch):
            return self
        chosen = torch.from_numpy(rows).to(self.steps_B.device)
        batch = self.batch.each(lambda tensor: tensor[chosen])
        less = batch.cells_BS.shape[1] - (width := batch.used_width())
        latents = {name: z[chosen, : z.shape[1] - less] for name, z in self.latents.items()}
        return Carry(latents, batch.padded(width), self.steps_B[chosen], self.halted_B[chosen])


def start_carry(model: RecursiveModel, batch_size: int) -> Carry:
    """Slots that are all halted, so that the first refill fills every one; no cells yet."""
    device = model.device
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
    batch = _choose_rows(carry.halted_B, offered.padded(width), carry.batch.padded(width))
    width = min(width, int(fixed_width(batch.used_width(), model.config.board_side)))
    fresh = model.initial_latents(len(batch), width)
    halted_B11 = carry.halted_B[:, None, None]
    latents = {
        name: torch.where(halted_B11, start_BSD, _resize(carry.latents[name], start_BSD))
        for name, start_BSD in fresh.items()
    }
    steps_B = carry.steps_B.masked_fill(carry.halted_B, 0)
    return Carry(latents, batch.padded(width), steps_B, torch.zeros_like(carry.halted_B))


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


def _resize(latents_BSD: Tensor, fresh_BSD: Tensor) -> Tensor:
    """The latents with as many positions as the fresh ones, which fill what is missing."""
    length = fresh_BSD.shape[1]
    return torch.cat((latents_BSD[:, :length], fresh_BSD[:, latents_BSD.shape[1] :]), dim=1)


def _choose_rows(choice_B: Tensor, new: Batch, old: Batch) -> Batch:
    def choose(name: str) -> Tensor:
        mine = getattr(new, name)
        others = getattr(old, name)
        return torch.where(choice_B.view(-1, *[1] * (mine.ndim - 1)), mine, others)

    return Batch(*map(choose, Batch.__dataclass_fields__))


def carry_tensors(carry: Carry, model: RecursiveModel) -> dict[str, Tensor]:
    """The slots as named tensors, with the latents of the positions in use only."""
    used_BS = positions_in_use(carry.batch.cells_BS, model)
    batch = {name.rpartition("_")[0]: getattr(carry.batch, name) for name in carry.batch.__dataclass_fields__}
    latents = {name: z_BSD[used_BS] for name, z_BSD in carry.latents.items()}
    return batch | latents | {"steps": carry.steps_B, "halted": carry.halted_B}


def join_carry(parts: Sequence[dict[str, Tensor]], model: RecursiveModel, own: slice) -> Carry:
    """The slots `own` of all those in `parts`, which are put in order as they come."""
    device = model.device
    width = max(part["cells"].shape[1] for part in parts)

    def joined(name: str) -> Tensor:
        return torch.cat([part[name] for part in parts]).to(device)

    names = Batch.__dataclass_fields__
    # Slots saved before a field was added do not have it.
    batches = [Batch(*(part.get(name.rpartition("_")[0]) for name in names)).padded(width) for part in parts]  # pyright: ignore[reportArgumentType]
    batch = Batch(*(torch.cat([getattr(part, name) for part in batches]).to(device) for name in names))
    used_BS = positions_in_use(batch.cells_BS, model)
    latents = {}
    for name in model.config.recursion.latents:
        rows = joined(name).to(model.precision)
        spread_BSD = rows.new_zeros(*used_BS.shape, rows.shape[1]).masked_scatter_(used_BS[..., None], rows)
        latents[name] = spread_BSD[own]
    return Carry(latents, batch.each(lambda tensor: tensor[own]), joined("steps")[own], joined("halted")[own])


def positions_in_use(cells_BS: Tensor, model: RecursiveModel) -> Tensor:
    """Which positions (B, S) hold something: the ID slots, and the cells that are no padding."""
    return F.pad(cells_BS >= 0, (model.config.id_slots, 0), value=True)


def minimum_steps(seed: int, step: int, batch_size: int, max_steps: int, probability: float) -> Tensor:
    """Exploration: per slot, with the probability given, a minimum of 2..max_steps steps, else 0.

    A function of its arguments alone; int64, (B,).
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 2]))
    explores_B = rng.random(batch_size) < probability
    return torch.from_numpy(explores_B * rng.integers(min(2, max_steps), max_steps + 1, batch_size))


def halts_by_chance(seed: int, step: int, batch_size: int, probability: float) -> Tensor:
    """Which slots end after this step whatever they answer, each with the probability given (SE-RRM): bool, (B,).

    A function of its arguments alone.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 6]))
    return torch.from_numpy(rng.random(batch_size) < probability)


def halting(steps_B: Tensor, margin_B: Tensor, minimum_B: Tensor, max_steps: int) -> Tensor:
    """Done at max_steps, or when the halting logit is positive (or exceeds the continue logit) and the minimum reached.

    margin_B: the halting logit, with Q-learning less the continue logit.
    """
    return (steps_B >= max_steps) | ((margin_B > 0) & (steps_B >= minimum_B))


@torch.no_grad()
def continue_target(after: Output, steps_B: Tensor, max_steps: int) -> Tensor:
    """What the continue logit learns, (B,): how likely the best is to be right if one goes on (HRM, section 2).

    after: the output of the step that would come next; steps_B: supervision steps made before it. At the last one only
    its halting logit counts.
    """
    best_B = torch.where(steps_B >= max_steps, after.halt_B, torch.maximum(after.halt_B, after.continue_B))
    return best_B.sigmoid()


def last_output(outputs: Iterator[Output]) -> Output:
    """The last of several outputs; those before it are not kept, latents are large."""
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
) -> Iterator[Output]:
    """The output of each supervision step from fresh latents, without halting; `steps` None: max_steps.

    chance: None for no noise between steps, and the mean of what equations add.
    """
    ids_BI = table.lookup(batch.puzzles_B)
    layout = model.layout(batch)
    latents = model.initial_latents(len(batch), batch.cells_BS.shape[1])
    for step in range(1, 1 + (steps or model.config.max_steps)):
        now = None if chance is None else chance.at(step)
        latents = latents if now is None else now.disturb(latents)
        output = model(latents, batch, ids_BI, layout, watch=watch, chance=now)
        latents = output.latents
        yield output
