"""Types of a table's specification: rows with their settings and evaluations, published orderings, tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from solver.model.config import ModelConfig
from solver.model.equations import UNIVERSAL, RecursionConfig

Group = Literal["sudoku", "maze", "queens", "arc", "arc2", "arc6", "sudoku9"]
"""Kind of puzzle. "sudoku9" is 9x9 at every scale. "arc6" is, at `cpu` scale, the ARC-AGI-1 training tasks with largest
side 6, on which no recipe is scored; at other scales it is the same as "arc"."""
Way = Literal["exact", "votes", "one view", "blank IDs", "shuffled IDs", "4x4", "6x6"]
"""How a trained model is evaluated (`pipeline.experiments.trial`).

"4x4" and "6x6" are Sudokus of that side, for a model trained on any side (`pipeline.experiments.other_sides`).
"""
Changes = Callable[[ModelConfig], Mapping[str, Any]]
"""Returns a row's settings by dotted name, given the base's model."""


@dataclass(frozen=True)
class Wide:
    """Evaluation with several trajectories (width), or with more supervision steps on one trajectory (depth).

    Attributes:
        trajectories: predictions for each augmentation.
        deeper: factor on the number of supervision steps.
        noise: width of PTRM's noise between supervision steps, in addition to the recursion's own noise.
        ranker: ranker that orders the candidates.
    """

    trajectories: int = 1
    deeper: int = 1
    noise: float = 0.0
    ranker: str = "count"

    def __str__(self) -> str:
        """Return the key of its result in result.json."""
        return f"{self.made} by {self.ranker}"

    @property
    def made(self) -> str:
        """The name of the predictions, which evaluations that differ only in the ranker share."""
        return f"{self.trajectories} wide {self.deeper} deep noise {self.noise:g}"


Ask = Way | Wide
"""An evaluation of a trained model."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: unique in the table.
        changes: function from the base's model to the settings that differ from the group's base config.
        published: published figures, as printed, one for each of the table's published columns.
        group: the kind of puzzle.
        ask: the evaluation.
        trained: name of the row whose training this one shares; None if it has its own.
    """

    name: str
    changes: Changes = lambda base: {}
    published: tuple[str, ...] = ()
    group: Group = "sudoku"
    ask: Ask = "exact"
    trained: str | None = None

    @property
    def training(self) -> str:
        """The name of the row whose training this row evaluates."""
        return self.trained or self.name


@dataclass(frozen=True)
class Claim:
    """A published ordering: row `above` scores higher than row `below`."""

    above: str
    below: str


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        title: title of the page.
        source: the publication.
        columns: headings of the published figures.
        rows: in the order of the page.
        claims: the orderings that the publication claims.
        steps: whether results are shown for every supervision step of prediction.
        note: explanation of the rows, printed under the table.
        equal_flop: whether the training of each row takes as many operations as that of its group's base.
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
        """Return the row with this name."""
        return next(row for row in self.rows if row.name == name)


def recursion(config: RecursionConfig) -> dict[str, Any]:
    """Return a recursion as settings by dotted name."""
    settings = {"updates": config.updates, "layers": config.layers, "gradient": config.gradient, "carry": config.carry}
    return {f"model.recursion.{name}": value for name, value in settings.items()}


def se_rrm(base: ModelConfig) -> dict[str, Any]:
    """Return the settings of SE-RRM, relative to a TRM as published.

    It has one latent, half the hidden size and half the heads; half of these heads attend over symbols.
    """
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
"""Settings that every model with a symbol axis has."""
