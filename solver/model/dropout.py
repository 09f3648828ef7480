"""Dropout within blocks, from counter-based random numbers (`solver.model.noise`).

Each application of a block gets factors for the outputs of its mixer and its MLP: 0, or 1/(1 - share) so that the
expected value is unchanged (Srivastava et al. 2014). In training, the noise source is keyed by seed, step and slot. The
factors are therefore the same in any chunk, batch or process, and resuming a run needs no saved generator state.

Shape letters: T positions in use, D hidden.
"""

from torch import Tensor

from solver.model.noise import IN_BLOCKS, NoiseSource
from solver.model.packing import Padding


class Dropout:
    """The dropout factors of one supervision step; `NoiseSource.dropout` is the share that is set to zero."""

    def __init__(self, chance: NoiseSource, padding: Padding):
        self.chance = chance
        self.padding = padding
        self.applications = 0

    def factors(self, x_TD: Tensor) -> Tensor:
        """Return factors for the next block, for its mixer and its MLP: (2, T, D) in the precision of x_TD."""
        uniform_2TD = self.chance.uniform(IN_BLOCKS + self.applications, self.padding, x_TD.shape[-1])
        self.applications += 1
        mask_2TD = (uniform_2TD >= self.chance.dropout).to(x_TD.dtype)
        return mask_2TD / (1 - self.chance.dropout)


def make_dropout(chance: NoiseSource | None, padding: Padding) -> Dropout | None:
    """Return the dropout of one supervision step, or None if its share is 0."""
    return Dropout(chance, padding) if chance is not None and chance.dropout else None


def drop(made: Tensor, factors: Tensor | None) -> Tensor:
    """Multiply the output of a mixer or an MLP by its dropout factors; None leaves it unchanged."""
    return made if factors is None else made * factors
