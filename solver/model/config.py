"""Settings of the model and of its training, as plain values that can be read and checked without torch."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from solver.data.choices import Palette
from solver.model.equations import FIXED_POINT, TRM, RecursionConfig

OptimizerName = Literal["adam_atan2", "muon", "adamw", "normuon"]
IdOptimizerName = Literal["sign", "adam"]
Schedule = Literal["cosine", "wsd"]
LossName = Literal["stablemax", "softmax"]
Curriculum = tuple[tuple[float, int, int], ...]
"""Stages in order: (share of the steps at which the stage ends, h_cycles, l_cycles)."""
Mixer = Literal["attention", "mlp"]
Positions = Literal["rope", "rope2d"]
Canvas = Literal["full", "task"]
Halting = Literal["halt", "q_learning", "random"]
Mlp = Literal["swiglu", "conv_swiglu"]
Noise = Literal["learned", "naive"]
Solver = Literal["plain", "anderson"]
Adjoint = Literal["implicit", "neumann"]
PosteriorUse = Literal["charged", "all"]


LARGEST_SIZE = 2**31 - 1
"""The largest size of a model, as torch's kernels take 32-bit sizes."""
MOST_ITERATIONS = 10_000
"""An update that takes more iterations to its fixed point comes closer by less than a thousandth in each, and is not
solved by iterating it; the same holds for the terms of its Neumann series."""
MOST_SUPERVISION_STEPS = 2**16 - 1
"""Predictions have the number of the supervision step in 16 bits."""


def _require(condition: bool, field: str, value: object, rule: str) -> None:
    _check(condition, f"model.{field}", value, rule)


def _check(condition: bool, field: str, value: object, rule: str) -> None:
    if not condition:
        raise ValueError(f"{field} = {value!r}: {rule}")


@dataclass(frozen=True)
class EquilibriumConfig:
    """Settings of the fixed-point solver and of the gradient through the fixed point (`solver.model.equilibrium`).

    method: repeat the update ("plain"), or extrapolate from the last `memory` updates ("anderson")
    iterations: the maximum number of updates
    tolerance: an example has converged when |new - old| / |new| is below this value
    gradient: by the implicit function theorem ("implicit"), to the same tolerance, or by the first `terms` terms of its
        Neumann series ("neumann"); one term is HRM's one-step gradient
    """

    method: Solver = "anderson"
    iterations: int = 24
    tolerance: float = 1e-3
    memory: int = 5
    gradient: Adjoint = "implicit"
    terms: int = 1

    def __post_init__(self) -> None:
        """Check the values; a ValueError names the field and the allowed values."""
        for name, kind in (("method", Solver), ("gradient", Adjoint)):
            allowed = get_args(kind)
            value = getattr(self, name)
            _require(value in allowed, f"equilibrium.{name}", value, f"must be one of {', '.join(allowed)}")
        for name, least in (("iterations", 1), ("memory", 2), ("terms", 1)):
            value = getattr(self, name)
            _require(value >= least, f"equilibrium.{name}", value, f"must be at least {least}")
        for name in ("iterations", "terms"):
            value = getattr(self, name)
            _require(value <= MOST_ITERATIONS, f"equilibrium.{name}", value, f"must be at most {MOST_ITERATIONS:,}")
        _require(0 < self.tolerance < 1, "equilibrium.tolerance", self.tolerance, "must be between 0 and 1")


@dataclass(frozen=True)
class EvidenceConfig:
    """Weights of the evidence lower bound with learnt noise (GRAM, eq. 14 and appendix B.2).

    kl_weight: weight of KL(posterior || prior), in nats per labelled cell like the cells' loss; with 1 the sum of the
        two is the bound itself
    kl_warmup: share of the steps over which this weight grows from 0
    free_bits: bits of KL per labelled cell that are not penalised
    kl_balance: share of the gradient that moves the prior towards the posterior; the rest moves the posterior
    posterior: transitions that draw from the posterior in training. "charged": those whose KL is in the loss, which are
        those with gradient. "all", as published: every transition; the earlier ones then reveal the target at no cost.
    prior_share: share of the cells' loss that is computed from the answer drawn from the prior, so that the network
        also learns to predict without the posterior (Sohn et al. 2015, section 4.2); 0 as published
    """

    kl_weight: float = 0.1
    kl_warmup: float = 0.1
    free_bits: float = 0.0
    kl_balance: float = 0.8
    posterior: PosteriorUse = "charged"
    prior_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the values; a ValueError names the field and the allowed values."""
        for name in ("kl_weight", "free_bits"):
            value = getattr(self, name)
            _check(math.isfinite(value) and value >= 0, f"train.evidence.{name}", value, "must be 0 or more")
        allowed = get_args(PosteriorUse)
        _check(
            self.posterior in allowed,
            "train.evidence.posterior",
            self.posterior,
            f"must be one of {', '.join(allowed)}",
        )
        for name in ("kl_warmup", "kl_balance", "prior_share"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"train.evidence.{name}", value, "must be between 0 and 1")

    def weight_at(self, step: int, total: int) -> float:
        """Return the weight of the KL at `step` (the first is 1) of `total`."""
        return self.kl_weight * min(1.0, step / max(1.0, self.kl_warmup * total))


EVIDENCE = EvidenceConfig()


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the model; the defaults are those published for ARC-AGI (TRM, section 5).

    mixer: the layer that mixes positions: attention or, as in TRM-MLP, a SwiGLU along the position axis ("mlp")
    id_slots: positions before the cells that the ID vector fills; id_size: its length (None: hidden)
    expansion: the inner size of a SwiGLU is two thirds of this factor times its size, rounded up to inner_multiple
    recursion: the equations that update the latents, run h_cycles times (`solver.model.equations`)
    max_steps: the maximum number of supervision steps on one example
    exploration: probability, per step and slot, that a minimum number of supervision steps is required
    halting: "halt": stop when the halting logit is positive. "q_learning" (HRM): stop when it exceeds the continue
        logit, which is learnt from the next supervision step, at the cost of another forward pass. "random" (SE-RRM):
        stop at each step with probability `exploration`; no halting is learnt.
    dropout: in training, the share of each block's mixer and MLP outputs set to zero (`solver.model.dropout`)
    mlp: the layer after the mixer: a SwiGLU, or URM's with a short convolution along positions ("conv_swiglu")
    noise: "+ e" in an equation has a learnt mean and width ("learned"), or mean 0 and width noise_width ("naive")
    noise_width: the initial width of learnt noise, or the width of naive noise; latents have size 1
    equilibrium: the solver of "* fixed_point" in an equation
    canvas: all cells of the board ("full") or only those that the task needs ("task")
    positions: rotary angles from an ID slot's or cell's number in one sequence ("rope", as published for TRM), or from
        the cell's row and column, half of the frequencies each ("rope2d", SE-RRM)
    symbols: each cell has a vector for each symbol, and a block attends over cells, then over symbols (SE-RRM,
        2603.02193); symbol_heads: heads of the second attention (None: heads)
    palette: with symbols, the symbols that are computed: those of the task's public grids ("task") or "all"
    transform_vectors: add a learnt vector for each of the 8 dihedral transforms to the ID vector (mdlARC)
    """

    hidden: int = 512
    heads: int = 8
    expansion: float = 4.0
    inner_multiple: int = 256
    layers: int = 2
    h_cycles: int = 3
    l_cycles: int = 4
    recursion: RecursionConfig = TRM
    mixer: Mixer = "attention"
    id_slots: int = 16
    id_size: int | None = None
    board_side: int = 30
    vocabulary: int = 12
    max_steps: int = 16
    exploration: float = 0.1
    halting: Halting = "halt"
    dropout: float = 0.0
    mlp: Mlp = "swiglu"
    noise: Noise = "learned"
    noise_width: float = 0.1
    equilibrium: EquilibriumConfig = EquilibriumConfig()
    canvas: Canvas = "full"
    rope_theta: float = 10000.0
    rms_epsilon: float = 1e-5
    positions: Positions = "rope"
    symbols: bool = False
    symbol_heads: int | None = None
    palette: Palette = "task"
    transform_vectors: bool = False

    def __post_init__(self) -> None:
        """Check the values; a ValueError names the field and the allowed values."""
        for field in fields(self):
            self._check_number(field.name, getattr(self, field.name))
        _require(self.mixer in get_args(Mixer), "mixer", self.mixer, 'must be "attention" or "mlp"')
        _require(self.canvas in get_args(Canvas), "canvas", self.canvas, 'must be "full" or "task"')
        _require(self.mlp in get_args(Mlp), "mlp", self.mlp, 'must be "swiglu" or "conv_swiglu"')
        _require(self.noise in get_args(Noise), "noise", self.noise, 'must be "learned" or "naive"')
        known = ", ".join(get_args(Halting))
        _require(self.halting in get_args(Halting), "halting", self.halting, f"must be one of {known}")
        _require(self.dropout < 1, "dropout", self.dropout, "must be below 1")
        settles = self.recursion.settles and self.dropout > 0
        _require(not settles, "dropout", self.dropout, 'must be 0 with "* fixed_point", which would not converge')
        _require(self.exploration <= 1, "exploration", self.exploration, "must be between 0 and 1")
        steps_fit = self.max_steps <= MOST_SUPERVISION_STEPS
        _require(steps_fit, "max_steps", self.max_steps, f"must be at most {MOST_SUPERVISION_STEPS}")
        _require(self.board_side <= 255, "board_side", self.board_side, "must be at most 255")
        fits = self.hidden % (2 * self.heads) == 0
        _require(fits, "hidden", self.hidden, f"must be a multiple of 2 x heads = {2 * self.heads}")
        room = self.id_slots * self.hidden
        _require(
            self.symbols or self.id_length <= room, "id_size", self.id_size, f"must fit id_slots x hidden = {room}"
        )
        _require(self.positions in get_args(Positions), "positions", self.positions, 'must be "rope" or "rope2d"')
        _require(self.palette in get_args(Palette), "palette", self.palette, 'must be "task" or "all"')
        turns = self.positions == "rope" or self.hidden // self.heads % 4 == 0
        _require(turns, "positions", self.positions, "a head's size, hidden / heads, must be a multiple of 4")
        self._check_symbols()
        joint = self.mixer == "mlp" and self.canvas == "task"
        _require(not joint, "canvas", self.canvas, 'must be "full" with mixer="mlp"')

    def _check_symbols(self) -> None:
        """Check the settings that a symbol axis cannot be combined with."""
        if not self.symbols:
            return
        needed = {"id_slots": 0, "id_size": None, "mixer": "attention", "mlp": "swiglu", "halting": "random"}
        for name, value in needed.items():
            setting = getattr(self, name)
            _require(setting == value, name, setting, f"must be {value!r} with model.symbols")
        plain = not self.recursion.noisy and not self.recursion.settles
        rule = f'must have neither "+ e" nor "* {FIXED_POINT}" with model.symbols'
        _require(plain, "recursion", self.recursion.updates, rule)

    def _check_number(self, name: str, value: object) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Comparisons are exact for numbers of any size, and math.isfinite() raises OverflowError.
            _require(abs(value) <= LARGEST_SIZE, name, value, f"must be a finite number, at most {LARGEST_SIZE:,}")
            zero_allowed = value == 0 and (name in ("exploration", "dropout") or (name == "id_slots" and self.symbols))
            _require(value > 0 or zero_allowed, name, value, "must be positive")

    @property
    def id_length(self) -> int:
        """The length of an ID vector, including its shared part."""
        own = self.hidden if self.id_size is None else self.id_size
        return own + self.shared_id_length

    @property
    def shared_id_length(self) -> int:
        """The length of the part of an ID vector that all puzzles of a task share: with symbols, V x hidden, else 0."""
        return self.vocabulary * self.hidden if self.symbols else 0

    @property
    def cells(self) -> int:
        """The number of cells of the whole board."""
        return self.board_side**2

    def layers_of(self, network: str) -> int:
        """Return the number of layers of a network of the recursion."""
        return dict(self.recursion.layers).get(network, self.layers)

    @property
    def total_layers(self) -> int:
        """The number of layers of all networks of the recursion together, each counted once."""
        return sum(map(self.layers_of, self.recursion.networks))

    @property
    def effective_depth(self) -> int:
        """Layers applied in sequence in one supervision step: T (n + 1) layers for TRM (TRM, table 1).

        An equation with a fixed point counts with its maximum: all iterations and the update with gradient.
        """
        runs = self.recursion.schedule(self.h_cycles, self.l_cycles)
        most = self.equilibrium.iterations + 1
        updates = ((run.update, run.times * (most if run.update.settles else 1)) for run in runs)
        return sum(times * self.layers_of(update.network) for update, times in updates)

    @property
    def forward_passes(self) -> int:
        """Forward passes per optimizer step (TRM, table 1)."""
        return 1 + self.learns_to_continue

    @property
    def learns_noise(self) -> bool:
        """Whether the noise of the recursion has a learnt mean and width."""
        return bool(self.recursion.noisy) and self.noise == "learned"

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the statistics that a supervision step reports per example, besides losses."""
        of_noise = ("kl", "prior_width", "posterior_width") if self.learns_noise else ()
        return of_noise + (("residual", "iterations", "adjoint_residual") if self.recursion.settles else ())

    @property
    def learns_to_continue(self) -> bool:
        """Whether the continue logit has a target: with max_steps = 1 there is no next supervision step."""
        return self.halting == "q_learning" and self.max_steps > 1
