"""The efficiency table: what has an ID row, positions, optimizer and colour symmetry, each for equal operations.

Every row trains as many steps as the operations of the first row's training pay for
(`pipeline.experiments.equal_flop`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.experiments.model_zoo import count_parameters
from pipeline.experiments.spec import SYMBOL_AXIS, Claim, Row, Table, se_rrm
from solver.model.config import ModelConfig

BASE = "a row per augmentation"
MDLARC = "as mdlARC"
IN_ONE_LINE = f"{MDLARC}, positions in one line"
WITH_ADAMW = f"{MDLARC}, AdamW"
SHARED = "one ID a task"

TRANSFORM: dict[str, Any] = {"puzzles.ids": "transform"}
TASK: dict[str, Any] = {"puzzles.ids": "task", "model.transform_vectors": True}
ROWS_AND_COLUMNS: dict[str, Any] = {"model.positions": "rope2d"}
ADAMW: dict[str, Any] = {"train.optimizer": "adamw"}
NORMUON: dict[str, Any] = {"train.optimizer": "normuon"}
TRANSFORMS_ONLY: dict[str, Any] = TRANSFORM | {"puzzles.augmentations": 7}


def equal_weights(base: ModelConfig) -> Mapping[str, Any]:
    """The base with a symbol axis, as wide as its number of weights allows; its recursion stays.

    Half of its heads attend over symbols, as published.
    """
    heads = max(1, base.heads // 2)
    return SYMBOL_AXIS | {"model.symbol_heads": heads, "model.hidden": _widest(base, heads)} | TRANSFORMS_ONLY


def _widest(base: ModelConfig, symbol_heads: int) -> int:
    """The largest hidden size, up to the base's, with which it has no more weights than the base; else the smallest."""
    allowed = count_parameters(base)
    step = 4 * base.heads
    settings: dict[str, Any] = {name.removeprefix("model."): value for name, value in SYMBOL_AXIS.items()}
    for hidden in range(base.hidden // step * step, step, -step):
        wide = replace(base, **settings, symbol_heads=symbol_heads, hidden=hidden)
        if count_parameters(wide) <= allowed:
            return hidden
    return step


def as_se_rrm(base: ModelConfig) -> Mapping[str, Any]:
    """SE-RRM's size and recursion; the 8 transforms are all its augmentations."""
    return {**se_rrm(base), **TRANSFORMS_ONLY}


def _row(name: str, said: str = "", *parts: Mapping[str, Any]) -> Row:
    changes = {setting: value for part in parts for setting, value in part.items()}
    return Row(name, lambda base: changes, (said,), "arc6", "votes")


NOTE = (
    f'Every row trains on as many operations as "{BASE}", by arithmetic, so its steps may differ; warm-up and the '
    "average of the weights span the same share of them. Figures said of other models are of the whole of ARC-AGI-1's "
    "evaluation, and of other networks: mdlARC is a transformer without recursion. Rows and columns: model.positions "
    "is rope2d (mdlARC's positions have a third axis, which tells input from output). With a row per transform or task "
    "training draws colours anew for every example. Symbols: a symbol axis, with the base's recursion and hidden so "
    "large that weights are about as many, or with SE-RRM's size and recursion; their answers are of the 8 transforms "
    "only. AdamW and NorMuon have the rate of Adam-atan2, and all other settings are the base's too."
)

EFFICIENCY = Table(
    "Efficiency: ID rows, positions, optimizer, symmetry",
    "TRM, arXiv 2510.04871; SE-RRM, arXiv 2603.02193; mdlARC, mvakde.github.io/blog/44-on-arc-1; one ID a task: arXiv "
    "2512.11847 and ARC Prize's analysis of HRM",
    ("said there, %",),
    (
        _row(BASE, "44.6 (TRM)"),
        _row(f"{BASE}, rows and columns", "", ROWS_AND_COLUMNS),
        _row("a row per transform", "", TRANSFORM),
        _row("a row per transform, rows and columns", "", TRANSFORM, ROWS_AND_COLUMNS),
        _row("a row per task, transform vectors", "", TASK),
        _row("a row per task, transform vectors, rows and columns", "", TASK, ROWS_AND_COLUMNS),
        _row(SHARED, "worse or no better, in two tries by others", {"puzzles.ids": "shared"}),
        _row("AdamW", "", ADAMW),
        _row("NorMuon", "", NORMUON),
        _row(MDLARC, "44 (mdlARC)", TASK, ROWS_AND_COLUMNS, NORMUON),
        _row(IN_ONE_LINE, "24 (mdlARC)", TASK, NORMUON),
        _row(WITH_ADAMW, "costs more for the same score", TASK, ROWS_AND_COLUMNS, ADAMW),
        Row("symbols, equal weights", equal_weights, ("",), "arc6", "votes"),
        Row("symbols, as SE-RRM", as_se_rrm, ("45.3 (SE-RRM)",), "arc6", "votes"),
    ),
    (Claim(MDLARC, IN_ONE_LINE), Claim(MDLARC, WITH_ADAMW), Claim(BASE, SHARED)),
    note=NOTE,
    equal_flop=True,
)
