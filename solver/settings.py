"""Settings of the model and of its training, as plain values: whoever only reads or checks them needs no torch."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from solver.family import TRM, RecursionConfig

OptimizerName = Literal["adam_atan2", "muon"]
Curriculum = tuple[tuple[float, int, int], ...]
"""Stages in order: (share of the steps until which it lasts, h_cycles, l_cycles)."""
Mixer = Literal["attention", "mlp"]
Canvas = Literal["full", "task"]
Halting = Literal["halt", "q_learning"]


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the model; the defaults are those published for ARC-AGI (TRM, section 5).

    mixer: what mixes positions, attention or (TRM-MLP) a SwiGLU along the position axis
    id_slots: positions that the ID vector fills before the cells; id_size: its length (None: hidden)
    expansion: inner size of the SwiGLU layers: two thirds of it times their size, rounded up to inner_multiple
    recursion: which latents are updated by what, h_cycles times (`solver.family`)
    max_steps: supervision steps; exploration: chance per step and slot to ask for a minimum of them
    halting: stop where the halting logit is positive ("halt"), or as HRM does where it exceeds the continue logit,
        which is learnt from the step after, at the cost of another forward pass ("q_learning")
    canvas: all cells of the board ("full") or only those that the task needs ("task")
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
    canvas: Canvas = "full"
    rope_theta: float = 10000.0
    rms_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse impossible values; ValueError names the field and what is allowed."""
        for field in fields(self):
            self._check_number(field.name, getattr(self, field.name))
        _require(self.mixer in get_args(Mixer), "mixer", self.mixer, 'must be "attention" or "mlp"')
        _require(self.canvas in get_args(Canvas), "canvas", self.canvas, 'must be "full" or "task"')
        _require(self.halting in get_args(Halting), "halting", self.halting, 'must be "halt" or "q_learning"')
        _require(self.exploration <= 1, "exploration", self.exploration, "must be between 0 and 1")
        _require(self.board_side <= 255, "board_side", self.board_side, "must be at most 255")
        fits = self.hidden % (2 * self.heads) == 0
        _require(fits, "hidden", self.hidden, f"must be a multiple of 2 x heads = {2 * self.heads}")
        room = self.id_slots * self.hidden
        _require(self.id_length <= room, "id_size", self.id_size, f"must fit id_slots x hidden = {room}")
        joint = self.mixer == "mlp" and self.canvas == "task"
        _require(not joint, "canvas", self.canvas, 'must be "full" with mixer="mlp"')

    def _check_number(self, name: str, value: object) -> None:
        if isinstance(value, int | float):
            _require(math.isfinite(value), name, value, "must be a finite number")
            zero_allowed = name == "exploration" and value == 0
            _require(value > 0 or zero_allowed, name, value, "must be positive")

    @property
    def id_length(self) -> int:
        """The length of an ID vector."""
        return self.hidden if self.id_size is None else self.id_size

    @property
    def cells(self) -> int:
        """The number of cells of the whole board."""
        return self.board_side**2

    def layers_of(self, network: str) -> int:
        """How many layers a network of the recursion has."""
        return dict(self.recursion.layers).get(network, self.layers)

    @property
    def effective_depth(self) -> int:
        """Layers applied one after the other in a supervision step: T (n + 1) layers for TRM (TRM, table 1)."""
        runs = self.recursion.schedule(self.h_cycles, self.l_cycles)
        return sum(run.times * self.layers_of(run.update.network) for run in runs)

    @property
    def forward_passes(self) -> int:
        """Forward passes per optimizer step (TRM, table 1)."""
        return 1 + self.learns_to_continue

    @property
    def learns_to_continue(self) -> bool:
        """Whether the continue logit has a target: a single supervision step has none after it."""
        return self.halting == "q_learning" and self.max_steps > 1


def _require(holds: bool, field: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"model.{field} = {value!r}: {rule}")
