"""The published tables and figures that the command `table` reproduces: their rows, settings and published figures.

A row changes a few settings of its group's base config at a scale (`pipeline.experiments.scales`). Rows may share a
training and differ in how it is evaluated: `Row.ask` names an evaluation of `pipeline.experiments.trial`.
"""

from dataclasses import replace
from typing import Any

from pipeline.config.run_config import ConfigError
from pipeline.experiments.efficiency_table import EFFICIENCY
from pipeline.experiments.sizes_table import SIZES
from pipeline.experiments.spec import Changes, Claim, Group, Row, Table, Way, recursion, se_rrm
from pipeline.experiments.width_table import WIDTH
from solver.model.config import ModelConfig
from solver.model.equations import DIRECT, HRM, SEPARATE, SINGLE, TRM, multi_scale

TRM_PAPER = "TRM, arXiv 2510.04871"
ANALYSIS = "ARC Prize's analysis of HRM, arcprize.org/blog/hrm-analysis"


def hrm(base: ModelConfig, k: int = 2, cycles: int = 2) -> dict[str, Any]:
    """Return the settings of HRM: two networks of twice the base's layers, with attention and a one-step gradient.

    Each cycle has k updates of the low-level latent. HRM has halting by Q-learning and no average of the weights; its
    puzzle embedding fills one slot, as published.
    """
    size = {"model.layers": 2 * base.layers, "model.h_cycles": cycles, "model.l_cycles": k, "model.id_slots": 1}
    rest = {"model.mixer": "attention", "model.halting": "q_learning", "train.average": None}
    return recursion(HRM) | size | rest


def transformer(base: ModelConfig, steps: int = 1) -> dict[str, Any]:
    """Return the settings of a transformer of the size of `hrm`, whose only recursion is the supervision steps."""
    size = {"model.layers": 4 * base.layers, "model.h_cycles": 1, "model.l_cycles": 1, "model.max_steps": steps}
    return recursion(DIRECT) | size | {"model.mixer": "attention"}


def attention(base: ModelConfig) -> dict[str, Any]:
    """Return the settings of TRM with attention."""
    return {"model.mixer": "attention"}


def mlp(base: ModelConfig) -> dict[str, Any]:
    """Return the settings of TRM-MLP, which needs the whole board."""
    return {"model.mixer": "mlp", "model.canvas": "full"}


TRM_ROW = "TRM (T=3, n=6)"
ABLATION = Table(
    "Ablation of TRM on Sudoku",
    f"{TRM_PAPER}, table 1 (Sudoku-Extreme)",
    ("accuracy, %", "depth", "passes", "parameters"),
    (
        Row("HRM", hrm, ("55.0", "24", "2", "27M")),
        Row(TRM_ROW, published=("87.4", "42", "1", "5M")),
        Row("with the continue loss", lambda base: {"model.halting": "q_learning"}, ("86.1", "42", "2", "5M")),
        Row("separate f_H and f_L", lambda base: recursion(SEPARATE), ("82.4", "42", "1", "10M")),
        Row("no average", lambda base: {"train.average": None}, ("79.9", "42", "1", "5M")),
        Row(
            "4 layers, n=3",
            lambda base: {"model.layers": 2 * base.layers, "model.l_cycles": max(1, base.l_cycles // 2)},
            ("79.5", "48", "1", "10M"),
        ),
        Row("with self-attention", attention, ("74.7", "42", "1", "7M")),
        Row("T=2, n=2", lambda base: {"model.h_cycles": 2, "model.l_cycles": 2}, ("73.7", "12", "1", "5M")),
        Row("one-step gradient", lambda base: recursion(replace(TRM, gradient="update")), ("56.5", "42", "1", "5M")),
        Row("symbols", se_rrm, ("", "", "", "2M")),
    ),
    (
        *(Claim(TRM_ROW, name) for name in ("HRM", "with the continue loss", "separate f_H and f_L", "no average")),
        *(Claim(TRM_ROW, name) for name in ("4 layers, n=3", "with self-attention", "T=2, n=2", "one-step gradient")),
        Claim("T=2, n=2", "one-step gradient"),
        Claim("with self-attention", "HRM"),
        Claim("symbols", "HRM"),
        Claim("symbols", "with self-attention"),
    ),
    note="Symbols: SE-RRM (arXiv 2603.02193), reported to outperform earlier recursive models on 9x9 Sudoku.",
)

LATENTS = Table(
    "More or fewer latents",
    f"{TRM_PAPER}, table 2 (Sudoku-Extreme)",
    ("accuracy, %", "latents"),
    (
        Row("two: answer and reasoning", published=("87.4", "2")),
        Row("one for each scale (n + 1)", lambda base: recursion(multi_scale(base.l_cycles)), ("77.6", "7")),
        Row("one", lambda base: recursion(SINGLE), ("71.9", "1")),
    ),
    (
        Claim("two: answer and reasoning", "one for each scale (n + 1)"),
        Claim("two: answer and reasoning", "one"),
        Claim("one for each scale (n + 1)", "one"),
    ),
)

_DEPTHS = (
    (1, 1, "46.4", "9", "63.2", "7"),
    (2, 2, "55.0", "24", "81.9", "20"),
    (3, 3, "61.6", "48", "87.4", "42"),
    (4, 4, "59.5", "80", "84.2", "72"),
    (6, 3, "62.3", "84", "out of memory", "78"),
    (3, 6, "58.8", "96", "85.8", "84"),
    (6, 6, "57.5", "168", "out of memory", "156"),
)
"""(k, T, accuracy of HRM, depth of HRM, accuracy of TRM, depth of TRM) of each published pair of rows."""


def _depth_rows() -> tuple[Row, ...]:
    rows = []
    # k and cycles are bound as defaults: a lambda would otherwise read their values after the loop.
    for k, cycles, hrm_accuracy, hrm_depth, trm_accuracy, trm_depth in _DEPTHS:
        rows.append(Row(
            f"HRM k={k}, T={cycles}",
            lambda base, k=k, cycles=cycles: hrm(base, k, cycles),
            (hrm_accuracy, hrm_depth),
        ))  # fmt: skip
        rows.append(Row(
            f"TRM k={k}, T={cycles}",
            lambda base, k=k, cycles=cycles: {"model.h_cycles": cycles, "model.l_cycles": 2 * k},
            (trm_accuracy, trm_depth),
        ))  # fmt: skip
    return tuple(rows)


DEPTH = Table(
    "HRM and TRM at similar depth (n = k and 4 layers, n = 2k and 2 layers)",
    f"{TRM_PAPER}, table 3 (Sudoku-Extreme); its depth of 9 at k=1, T=1 is 8 by its own formula",
    ("accuracy, %", "depth"),
    _depth_rows(),
    (
        *(Claim(f"TRM k={k}, T={cycles}", f"HRM k={k}, T={cycles}") for k, cycles in ((1, 1), (2, 2), (3, 3), (4, 4))),
        Claim("TRM k=3, T=3", "TRM k=1, T=1"),
        Claim("TRM k=3, T=3", "TRM k=4, T=4"),
        Claim("HRM k=3, T=3", "HRM k=1, T=1"),
    ),
)


def _way(group: Group) -> Way:
    return "votes" if group.startswith("arc") else "exact"


def _rows_for_groups(
    groups: tuple[tuple[str, Group], ...], rows: tuple[tuple[str, Changes, tuple[str, ...]], ...]
) -> tuple[Row, ...]:
    """Return each row for each kind of puzzle.

    Args:
        groups: (label, group) of each kind of puzzle.
        rows: (name, changes, figures), the figures being the number of parameters and the accuracy on each kind.
    """
    return tuple(
        Row(f"{name}, {label}", changes, (figures[0], figures[1 + number]), group, _way(group))
        for number, (label, group) in enumerate(groups)
        for name, changes, figures in rows
    )


PUZZLES = Table(
    "Puzzles",
    f"{TRM_PAPER}, table 4 (Sudoku-Extreme, Maze-Hard); language models left out",
    ("parameters", "accuracy, %"),
    _rows_for_groups(
        (("Sudoku", "sudoku"), ("Maze", "maze")),
        (
            ("direct prediction", transformer, ("27M", "0.0", "0.0")),
            ("HRM", hrm, ("27M", "55.0", "74.5")),
            ("TRM-Att", attention, ("7M", "74.7", "85.3")),
            ("TRM-MLP", mlp, ("5M/19M", "87.4", "0.0")),
        ),
    ),
    (
        *(Claim("TRM-MLP, Sudoku", f"{name}, Sudoku") for name in ("TRM-Att", "HRM", "direct prediction")),
        *(Claim("TRM-Att, Maze", f"{name}, Maze") for name in ("TRM-MLP", "HRM", "direct prediction")),
    ),
)

ARC = Table(
    "ARC-AGI",
    f"{TRM_PAPER}, table 5 (pass@2; votes pooled over checkpoints); language models left out",
    ("parameters", "pass@2, %"),
    _rows_for_groups(
        (("ARC-AGI-1", "arc"), ("ARC-AGI-2", "arc2")),
        (
            ("direct prediction", transformer, ("27M", "21.0", "0.0")),
            ("HRM", hrm, ("27M", "40.3", "5.0")),
            ("TRM-Att", attention, ("7M", "44.6", "7.8")),
            ("TRM-MLP", mlp, ("19M", "29.6", "2.4")),
        ),
    ),
    tuple(
        Claim(f"TRM-Att, {where}", f"{name}, {where}")
        for where in ("ARC-AGI-1", "ARC-AGI-2")
        for name in ("HRM", "TRM-MLP", "direct prediction")
    ),
)

STEPS = (1, 2, 4, 8, 16)


def _steps(steps: int) -> Changes:
    return lambda base: {"model.max_steps": steps}


OUTER_LOOP = Table(
    "The outer loop: supervision steps in training, and in prediction",
    f"{ANALYSIS} (HRM on ARC-AGI-1)",
    ("said there",),
    (
        Row("1 step", _steps(1), ("",)),
        Row("2 steps", _steps(2), ("13 points above 1 step",)),
        Row("4 steps", _steps(4), ("",)),
        Row("8 steps", _steps(8), ("twice as good as 1 step",)),
        Row("16 steps", _steps(16), ("predicted with one, over 15 points above 1 step",)),
        Row("transformer, 1 step", lambda base: transformer(base, 1), ("",)),
        Row("transformer, 16 steps", lambda base: transformer(base, 16), ("within about 5 points of HRM",)),
    ),
    (
        Claim("2 steps", "1 step"),
        Claim("8 steps", "1 step"),
        Claim("16 steps", "1 step"),
        Claim("16 steps", "8 steps"),
        Claim("transformer, 16 steps", "transformer, 1 step"),
    ),
    steps=True,
)

INNER = ((1, 1), (1, 6), (2, 2), (3, 6))
AUGMENTATIONS = (0, 30, 300, 1000)
RIGHT_IDS = "right IDs"


def _augmented(number: int) -> Changes:
    return lambda base: {"puzzles.augmentations": number}


def _driver_rows() -> tuple[Row, ...]:
    cycle_figures = {(2, 2): "73.7 (TRM, table 1)", (3, 6): "87.4 (TRM, table 1)"}
    rows = [
        Row(
            f"T={cycles}, n={n}",
            lambda base, cycles=cycles, n=n: {"model.h_cycles": cycles, "model.l_cycles": n},
            (cycle_figures.get((cycles, n), ""),),
        )
        for cycles, n in INNER
    ]
    augmentation_figures = {30: "within 4 points of 1000", 300: "as good as 1000"}
    for number in AUGMENTATIONS:
        name = f"{number} augmentations"
        rows.append(Row(name, _augmented(number), (augmentation_figures.get(number, ""),), "arc", "votes"))
        if number:
            finding = "augmentations matter less in prediction than in training"
            rows.append(Row(f"{name}, one view voted", _augmented(number), (finding,), "arc", "one view", trained=name))
    rows.append(Row(RIGHT_IDS, published=("",), group="arc", ask="votes"))
    wrong_ids: tuple[Way, ...] = ("blank IDs", "shuffled IDs")
    rows += [Row(way, published=("0",), group="arc", ask=way, trained=RIGHT_IDS) for way in wrong_ids]
    finding = "worse or no better, in two attempts by others"
    rows.append(Row("one ID a task", lambda base: {"puzzles.ids": "shared"}, (finding,), "arc", "votes"))
    return tuple(rows)


DRIVERS = Table(
    "What drives the score: inner cycles, augmentations, IDs",
    f"{ANALYSIS}; cycles: {TRM_PAPER}; IDs: arXiv 2512.11847",
    ("said there",),
    _driver_rows(),
    (
        Claim("T=3, n=6", "T=2, n=2"),
        Claim("30 augmentations", "0 augmentations"),
        Claim("1000 augmentations", "30 augmentations"),
        Claim("300 augmentations", "30 augmentations"),
        Claim(RIGHT_IDS, "blank IDs"),
        Claim(RIGHT_IDS, "shuffled IDs"),
        Claim(RIGHT_IDS, "one ID a task"),
    ),
)

TABLES = {
    "sudoku-ablation": ABLATION,
    "latents": LATENTS,
    "depth": DEPTH,
    "puzzles": PUZZLES,
    "arc": ARC,
    "outer-loop": OUTER_LOOP,
    "drivers": DRIVERS,
    "width": WIDTH,
    "efficiency": EFFICIENCY,
    "sizes": SIZES,
}


def find_table(name: str) -> Table:
    """Return the table with this name; ConfigError, which lists the tables, if there is none."""
    if name not in TABLES:
        raise ConfigError(f"table {name}: no such table", f"there are {', '.join(TABLES)}")
    return TABLES[name]
