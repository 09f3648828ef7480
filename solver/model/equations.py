"""Recursion equations of the model family, in the notation of the papers: parsing, checks and update order.

A recursion has latents and an input x. Each equation replaces one latent by a network applied to a sum:

    z_l = f(z_l + z_h + x) * l_cycles
    z_h = f(z_h + z_l)

One cycle runs all equations in order. A supervision step has `h_cycles` cycles, and "* l_cycles" repeats an equation
within each cycle. Networks are called f or f_NAME, latents z or z_NAME. Equations that name the same network share its
weights. The latent of the last equation is the answer, which the output heads read.

"* fixed_point" repeats an equation until its latent converges (`solver.model.equilibrium`), and "+ e" after the network
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
    """One equation: latent = network(sum of `reads`).

    times: number of repeats in each cycle; None: l_cycles
    noisy: noise is added to the output of the network
    settles: repeated until the latent converges to a fixed point
    """

    latent: str
    network: str
    reads: tuple[str, ...]
    times: int | None = 1
    noisy: bool = False
    settles: bool = False

    def repeats(self, l_cycles: int) -> int:
        """Return the number of repeats in one cycle."""
        return l_cycles if self.times is None else self.times


@dataclass(frozen=True)
class Run:
    """An update repeated `times` times, with or without gradient."""

    update: Update
    times: int
    gradient: bool


@dataclass(frozen=True)
class RecursionConfig:
    """The equations of a recursion and how gradients and latents pass through it; the default is TRM (section 4,
    figure 3).

    updates: the equations, see the module docstring
    layers: (network, layers) for each network whose number of layers is not model.layers
    gradient: through the last "cycle", through the last "update" of each latent (HRM's one-step gradient), or "all"
    carry: a supervision step starts from the latents of the previous one ("keep") or from the initial ones ("reset")
    """

    updates: tuple[str, ...] = ("z_l = f(z_l + z_h + x) * l_cycles", "z_h = f(z_h + z_l)")
    layers: tuple[tuple[str, int], ...] = ()
    gradient: Gradient = "cycle"
    carry: Carrying = "keep"

    def __post_init__(self) -> None:
        """Check the recursion; a ValueError names the equation or field and the allowed values."""
        if not self.updates:
            raise ValueError('model.recursion.updates: give at least one equation, such as "z = f(z + x)"')
        terms = {name for update in self.parsed for name in update.reads}
        for name in sorted(terms - {INPUT, *self.latents}):
            raise ValueError(
                f"model.recursion.updates: {name} is read, but no equation defines it; add an equation, or read x"
            )
        for update in self.parsed:
            if update.settles and (update.noisy or update.latent not in update.reads):
                raise ValueError(
                    f'model.recursion.updates: {update.latent} cannot settle: "* {FIXED_POINT}" needs an equation '
                    "that reads its own latent and adds no noise"
                )
        if INPUT not in terms:
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
        """The parsed equations, in order."""
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
        """Every latent with noise, in the order of the equations."""
        return tuple(dict.fromkeys(update.latent for update in self.parsed if update.noisy))

    @property
    def settles(self) -> bool:
        """Whether any equation is repeated until its latent converges."""
        return any(update.settles for update in self.parsed)

    def schedule(self, h_cycles: int, l_cycles: int) -> Iterator[Run]:
        """Yield the updates of one supervision step, in order."""
        last = {update.latent: number for number, update in enumerate(self.parsed)}
        for cycle in range(1, h_cycles + 1):
            for number, update in enumerate(self.parsed):
                times = update.repeats(l_cycles)
                if self.gradient == "update" and cycle == h_cycles and last[update.latent] == number:
                    yield from (Run(update, count, grad) for count, grad in ((times - 1, False), (1, True)) if count)
                else:
                    has_gradient = self.gradient == "all" or (self.gradient == "cycle" and cycle == h_cycles)
                    yield Run(update, times, has_gradient)


def parse_update(equation: str) -> Update:
    """Parse an equation; a ValueError states the expected form."""
    match = _EQUATION.fullmatch(equation)
    if match is None:
        raise ValueError(
            f'model.recursion.updates: {equation!r} is no equation; write it as "z_h = f(z_h + z_l + x)". Networks '
            'are called f or f_NAME, latents z or z_NAME, and the input is x. Add " + e" for noise, and after it '
            f'" * l_cycles", " * 3" or " * {FIXED_POINT}" to repeat the equation.'
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
"""TRM with noise on the answer, whose mean and width are learnt (2605.19376, eq. 6 to 9)."""

EQUILIBRIUM = RecursionConfig(("z = f(z + x) * fixed_point",))
"""One latent, updated until it converges (Bai et al. 2019), which HRM's one-step gradient assumes to happen."""

UNIVERSAL = RecursionConfig(("z = f(z + x) * l_cycles",))
"""A universal transformer. URM (2512.14693) is this with model.mlp="conv_swiglu" and two cycles, the first of them
without gradient."""

DIRECT = RecursionConfig(("z_h = f(z_h + x)",))
"""Recursion over supervision steps only (ARC Prize's analysis of HRM); with model.max_steps=1, none at all."""


def multi_scale(scales: int) -> RecursionConfig:
    """Return a recursion with `scales` reasoning latents, each updated once per cycle (2510.04871, table 2, has 6)."""
    latents = [f"z_{number}" for number in range(1, scales + 1)]
    total = " + ".join(latents)
    return RecursionConfig((*(f"{latent} = f({total} + z_h + x)" for latent in latents), f"z_h = f(z_h + {total})"))
