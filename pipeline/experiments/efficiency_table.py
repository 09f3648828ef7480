"""The efficiency table: puzzle embeddings, positions, optimizers and colour symmetry at equal operations.

The training of every row takes as many floating-point operations as that of the first row; its number of steps follows
from that (`pipeline.experiments.equal_flop`).
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
    """Return the settings that add a symbol axis to the base, with at most as many weights and the same recursion.

    The hidden size is the largest that allows it. Half of the heads attend over symbols, as published.
    """
    heads = max(1, base.heads // 2)
    return SYMBOL_AXIS | {"model.symbol_heads": heads, "model.hidden": _largest_hidden(base, heads)} | TRANSFORMS_ONLY


def _largest_hidden(base: ModelConfig, symbol_heads: int) -> int:
    """Return the largest hidden size, at most the base's, that needs no more weights than the base has.

    If there is none, the smallest possible hidden size is returned.
    """
    limit = count_parameters(base)
    # With rope2d positions the size of a head (hidden / heads) must be a multiple of 4.
    increment = 4 * base.heads
    settings: dict[str, Any] = {name.removeprefix("model."): value for name, value in SYMBOL_AXIS.items()}
    for hidden in range(base.hidden // increment * increment, increment, -increment):
        config = replace(base, **settings, symbol_heads=symbol_heads, hidden=hidden)
        if count_parameters(config) <= limit:
            return hidden
    return increment


def as_se_rrm(base: ModelConfig) -> Mapping[str, Any]:
    """Return the settings of SE-RRM's size and recursion, with the 8 transforms as the only augmentations."""
    return {**se_rrm(base), **TRANSFORMS_ONLY}


def _row(name: str, published: str = "", *parts: Mapping[str, Any]) -> Row:
    changes = {setting: value for part in parts for setting, value in part.items()}
    return Row(name, lambda base: changes, (published,), "arc6", "votes")


NOTE = (
    f'The training of every row takes as many operations as that of "{BASE}" (calculated), so its number of steps may '
    "differ; warm-up and the average of the weights span the same share of the steps. Published figures are for all of "
    "ARC-AGI-1's evaluation and for other networks: mdlARC is a transformer without recursion. Rows and columns: "
    "model.positions is rope2d (mdlARC's positions have a third axis, which distinguishes input from output). With a "
    "row per transform or task, training draws a new colour permutation for every example. Symbols: a symbol axis, "
    "either with the base's recursion and the hidden size that gives about as many weights, or with SE-RRM's size and "
    "recursion; their predictions are made under the 8 transforms only. AdamW and NorMuon have the learning rate of "
    "Adam-atan2, and all other settings are the base's too."
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
        _row(SHARED, "worse or no better, in two attempts by others", {"puzzles.ids": "shared"}),
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
