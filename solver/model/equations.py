"""The models of the family, written as their papers write them: equations in, updates in order out.

A recursion has latents and an input x. Each equation replaces one latent by a network of a sum:

    z_l = f(z_l + z_h + x) * l_cycles
    z_h = f(z_h + z_l)

All equations, in order, are one cycle; a supervision step is `h_cycles` of them, and "* l_cycles" repeats an equation
within each. Networks are called f or f_NAME, latents z or z_NAME; equal names are equal weights. The latent of the last
equation is the answer, which the output heads read.

"* fixed_point" repeats an equation until its latent settles (`solver.model.equilibrium`), and "+ e" after the network
adds noise whose mean and width are learnt (`solver.model.learned_noise`):

    z = f(z + x) * fixed_point
    z_h = f(z_h + z_l) + e
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

Gradient = Literal["cycle", "update", "all"]
Carrying = Literal["keep", "reset"]

INPUT = "x"
FIXED_POINT = "fixed_point"
_EQUATION = re.compile(
    r"(z(?:_[A-Za-z0-9]+)*) = (f(?:_[A-Za-z0-9]+)*)\(([\w +]+)\)( \+ e)?"
    rf"(?: \* (l_cycles|{FIXED_POINT}|[1-9]\d*))?"
)


@dataclass(frozen=True)
class Update:
    """latent = network(sum of what is read), `times` times over; None: l_cycles times.

    noisy: noise is added to what the network gives; settles: made until the latent no longer moves
    """

    latent: str
    network: str
    reads: tuple[str, ...]
    times: int | None = 1
    noisy: bool = False
    settles: bool = False

    def repeats(self, l_cycles: int) -> int:
        """How often it is made in one cycle."""
        return l_cycles if self.times is None else self.times


@dataclass(frozen=True)
class Run:
    """An update made `times` times over, with gradient or without."""

    update: Update
    times: int
    gradient: bool


@dataclass(frozen=True)
class RecursionConfig:
    """Which latents there are, and what they become; the default is TRM (section 4, figure 3).

    updates: equations, see above
    layers: (network, layers) where a network has another number than model.layers
    gradient: through the last "cycle", through the last "update" of each latent (HRM's one-step gradient), or "all"
    carry: a supervision step goes on from the latents of the one before ("keep"), or from the start ("reset")
    """

    updates: tuple[str, ...] = ("z_l = f(z_l + z_h + x) * l_cycles", "z_h = f(z_h + z_l)")
    layers: tuple[tuple[str, int], ...] = ()
    gradient: Gradient = "cycle"
    carry: Carrying = "keep"

    def __post_init__(self) -> None:
        """Refuse what is no recursion; ValueError names the equation or field and what is allowed."""
        if not self.updates:
            raise ValueError('model.recursion.updates: give at least one equation, such as "z = f(z + x)"')
        read = {name for update in self.parsed for name in update.reads}
        for name in sorted(read - {INPUT, *self.latents}):
            raise ValueError(f"model.recursion.updates: {name} is read, but no equation gives it; add one, or read x")
        for update in self.parsed:
            if update.settles and (update.noisy or update.latent not in update.reads):
                raise ValueError(
                    f'model.recursion.updates: {update.latent} cannot settle: "* {FIXED_POINT}" is for an equation '
                    "that reads its own latent and adds no noise"
                )
        if INPUT not in read:
            raise ValueError("model.recursion.updates: no equation reads x, the input; add it to one")
        for name, layers in self.layers:
            if name not in self.networks or layers < 1:
                allowed = f"one of {', '.join(self.networks)} with a positive number"
                raise ValueError(f"model.recursion.layers = {[name, layers]!r}: must be {allowed}")
        for field, value, kind in (("gradient", self.gradient, Gradient), ("carry", self.carry, Carrying)):
            if value not in get_args(kind):
                raise ValueError(f"model.recursion.{field} = {value!r}: must be one of {', '.join(get_args(kind))}")

    @cached_property
    def parsed(self) -> tuple[Update, ...]:
        """The equations."""
        return tuple(map(parse_update, self.updates))

    @property
    def answer(self) -> str:
        """The latent that the heads read."""
        return self.parsed[-1].latent

    @property
    def latents(self) -> tuple[str, ...]:
        """Every latent, the answer first, then in the order of the equations."""
        return tuple(dict.fromkeys([self.answer, *(update.latent for update in self.parsed)]))

    @property
    def networks(self) -> tuple[str, ...]:
        """Every network, in the order of the equations."""
        return tuple(dict.fromkeys(update.network for update in self.parsed))

    @property
    def noisy(self) -> tuple[str, ...]:
        """The latents that noise is added to, in the order of the equations."""
        return tuple(dict.fromkeys(update.latent for update in self.parsed if update.noisy))

    @property
    def settles(self) -> bool:
        """Whether any equation is repeated until its latent settles."""
        return any(update.settles for update in self.parsed)

    def schedule(self, h_cycles: int, l_cycles: int) -> Iterator[Run]:
        """The updates of one supervision step, in order."""
        last = {update.latent: number for number, update in enumerate(self.parsed)}
        for cycle in range(1, h_cycles + 1):
            for number, update in enumerate(self.parsed):
                times = update.repeats(l_cycles)
                if self.gradient == "update" and cycle == h_cycles and last[update.latent] == number:
                    yield from (Run(update, count, grad) for count, grad in ((times - 1, False), (1, True)) if count)
                else:
                    kept = self.gradient == "all" or (self.gradient == "cycle" and cycle == h_cycles)
                    yield Run(update, times, kept)


def parse_update(equation: str) -> Update:
    """An equation as values; ValueError saying what is wrong with it."""
    match = _EQUATION.fullmatch(equation)
    if match is None:
        raise ValueError(
            f'model.recursion.updates: {equation!r} is no equation; write it as "z_h = f(z_h + z_l + x)": networks are '
            'f or f_NAME, latents z or z_NAME, the input is x; " + e" after it adds noise, and then " * l_cycles", '
            f'" * 3" or " * {FIXED_POINT}" repeats it'
        )
    latent, network, reads, noise, times = match.groups()
    settles = times == FIXED_POINT
    number = times if times and times.isdigit() else 1
    repeats = None if times == "l_cycles" else int(number)
    return Update(latent, network, tuple(reads.split(" + ")), repeats, noise is not None, settles)


TRM = RecursionConfig()
"""One network, two latents (2510.04871, section 4)."""

SEPARATE = RecursionConfig(("z_l = f_l(z_l + z_h + x) * l_cycles", "z_h = f_h(z_h + z_l)"))
"""A network for each latent (2510.04871, table 1)."""

HRM = RecursionConfig(SEPARATE.updates, gradient="update")
"""Two networks at two speeds, one-step gradient (2506.21734); with model.halting="q_learning"."""

SINGLE = RecursionConfig(("z = f(z + x) * l_cycles", "z = f(z)"))
"""One latent, for reasoning and answer (2510.04871, table 2)."""

GRAM = RecursionConfig(("z_l = f(z_l + z_h + x) * l_cycles", "z_h = f(z_h + z_l) + e"))
"""TRM whose answer moves by chance, with learnt mean and width (2605.19376, eq. 6 to 9)."""

EQUILIBRIUM = RecursionConfig(("z = f(z + x) * fixed_point",))
"""One latent, one update, until it settles (Bai et al. 2019; what HRM's one-step gradient takes for granted)."""

UNIVERSAL = RecursionConfig(("z = f(z + x) * l_cycles",))
"""A universal transformer; with two cycles, one of them without gradient, and model.mlp="conv_swiglu": URM
(2512.14693)."""

DIRECT = RecursionConfig(("z_h = f(z_h + x)",))
"""No recursion but the outer one, of supervision steps (ARC Prize's analysis of HRM); with one step, none at all."""


def multi_scale(scales: int) -> RecursionConfig:
    """As many reasoning latents, each made once a cycle, besides the answer (2510.04871, table 2: 6)."""
    scale = [f"z_{number}" for number in range(1, scales + 1)]
    every = " + ".join(scale)
    return RecursionConfig((*(f"{each} = f({every} + z_h + x)" for each in scale), f"z_h = f(z_h + {every})"))
