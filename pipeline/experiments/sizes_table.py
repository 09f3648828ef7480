"""The sizes table: models trained on 9x9 Sudoku, tested on 9x9 and, with the same weights, on smaller boards."""

from collections.abc import Mapping
from typing import Any

from pipeline.experiments.spec import Claim, Row, Table, Way, se_rrm
from solver.model.config import ModelConfig

SIDES: dict[str, Way] = {"9x9": "exact", "6x6": "6x6", "4x4": "4x4"}
SYMBOLS = "symbols"
ATTENTION = "TRM with self-attention"


def attention(base: ModelConfig) -> Mapping[str, Any]:
    """Return the settings of TRM with attention and two-dimensional positions.

    With one-dimensional positions, a cell would have another position on a board of another side.
    """
    return {"model.mixer": "attention", "model.positions": "rope2d"}


def _rows() -> tuple[Row, ...]:
    rows = []
    for model, changes in ((SYMBOLS, se_rrm), (ATTENTION, attention)):
        for side, ask in SIDES.items():
            training = None if ask == "exact" else f"{model}, 9x9"
            rows.append(Row(f"{model}, {side}", changes, ("",), "sudoku9", ask, training))
    return tuple(rows)


SIZES = Table(
    "Trained on 9x9 Sudoku, tested on smaller boards",
    "SE-RRM, arXiv 2603.02193 (Sudoku-Extreme)",
    ("said there",),
    _rows(),
    tuple(Claim(f"{SYMBOLS}, {side}", f"{ATTENTION}, {side}") for side in ("9x9", "4x4")),
    note="Every row is trained on 9x9 boards only. The smaller boards are generated: as many as there are 9x9 tests, "
    "and at most 1,000. 6x6, whose boxes are not square, is not in the paper.",
)
