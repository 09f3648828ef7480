"""What tables are made of: rows with their settings and ways of asking, claims, and what a table prints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from solver.model.config import ModelConfig
from solver.model.equations import UNIVERSAL, RecursionConfig

Group = Literal["sudoku", "maze", "queens", "arc", "arc2", "arc6", "sudoku9"]
"""sudoku9: 9x9 at every scale. arc6: at `cpu` scale ARC-AGI-1 training tasks of largest side 6, which no recipe is
scored on, and at other scales as arc."""
Way = Literal["exact", "votes", "one view", "blank IDs", "shuffled IDs", "4x4", "6x6"]
"""4x4, 6x6: Sudokus of that side, whatever it was trained on (`pipeline.experiments.other_sides`)."""
Changes = Callable[[ModelConfig], Mapping[str, Any]]


@dataclass(frozen=True)
class Wide:
    """Asked along several trajectories, or deeper along one: width against depth at prediction.

    deeper: times as many supervision steps; noise: between these, as PTRM adds it, besides what the recursion draws
    ranker: which of the answers is the first
    """

    trajectories: int = 1
    deeper: int = 1
    noise: float = 0.0
    ranker: str = "count"

    def __str__(self) -> str:
        """Its name among a trial's answers."""
        return f"{self.made} by {self.ranker}"

    @property
    def made(self) -> str:
        """The name of the answers themselves, however they are ranked."""
        return f"{self.trajectories} wide {self.deeper} deep noise {self.noise:g}"


Ask = Way | Wide


@dataclass(frozen=True)
class Row:
    """A line of a table.

    changes: settings over the group's base, given the base's model
    published: figures as printed there, one for each of the table's published columns
    trained: the row whose training this one shares, if not its own
    """

    name: str
    changes: Changes = lambda base: {}
    published: tuple[str, ...] = ()
    group: Group = "sudoku"
    ask: Ask = "exact"
    trained: str | None = None

    @property
    def training(self) -> str:
        """The name of the training it is a result of."""
        return self.trained or self.name


@dataclass(frozen=True)
class Claim:
    """A published ordering: the one row is above the other."""

    above: str
    below: str


@dataclass(frozen=True)
class Table:
    """A published table: its rows, the figures printed beside them, the orderings that it claims.

    steps: results are shown for every supervision step of prediction
    note: what a reader must know of its rows
    equal_flop: each row trains as many steps as the operations of its group's base pay for
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    steps: bool = False
    note: str = ""
    equal_flop: bool = False

    def row(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)


def recursion(config: RecursionConfig) -> dict[str, Any]:
    """The settings that make a model's recursion this one."""
    settings = {"updates": config.updates, "layers": config.layers, "gradient": config.gradient, "carry": config.carry}
    return {f"model.recursion.{name}": value for name, value in settings.items()}


def se_rrm(base: ModelConfig) -> dict[str, Any]:
    """SE-RRM beside a TRM as published: half as wide, half the heads, half of these over symbols, one latent."""
    heads = max(1, base.heads // 2)
    size = {"model.hidden": base.hidden // 2, "model.heads": heads, "model.symbol_heads": max(1, heads // 2)}
    return recursion(UNIVERSAL) | size | SYMBOL_AXIS


SYMBOL_AXIS: dict[str, Any] = {
    "model.symbols": True,
    "model.mixer": "attention",
    "model.id_slots": 0,
    "model.halting": "random",
    "model.positions": "rope2d",
}
"""What every model with a symbol axis has."""
