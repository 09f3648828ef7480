"""Dropout within blocks: which numbers are left out, as a function of whose they are and where, and of nothing else.

In: the chance of each example (`solver.model.noise`), keyed in training by seed, step and slot. Out: for each
application of a block, in order, factors for the outputs of its mixer and its MLP: 0, or 1/(1 - share) so that means
stay (Srivastava et al. 2014). So they are the same in any chunk, batch or process, and nothing has to be saved to go
on.

Shape letters: T positions in use, D hidden.
"""

from torch import Tensor

from solver.model.noise import IN_BLOCKS, NoiseSource
from solver.model.packing import Padding


class Dropout:
    """The factors of one supervision step; `NoiseSource.dropout` is the share left out."""

    def __init__(self, chance: NoiseSource, padding: Padding):
        self.chance = chance
        self.padding = padding
        self.applications = 0

    def factors(self, x_TD: Tensor) -> Tensor:
        """For the next block, that is given x_TD: (2, T, D) in its precision, of the mixer and of the MLP."""
        drawn_2TD = self.chance.uniform(IN_BLOCKS + self.applications, self.padding, x_TD.shape[-1])
        self.applications += 1
        kept_2TD = (drawn_2TD >= self.chance.dropout).to(x_TD.dtype)
        return kept_2TD / (1 - self.chance.dropout)


def make_dropout(chance: NoiseSource | None, padding: Padding) -> Dropout | None:
    """None where nothing is left out."""
    return Dropout(chance, padding) if chance is not None and chance.dropout else None


def drop(made: Tensor, factors: Tensor | None) -> Tensor:
    """What a mixer or an MLP made, times its factors where there are any."""
    return made if factors is None else made * factors
