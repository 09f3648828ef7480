"""The width table: more supervision steps against more trajectories at equal compute, with controls.

The deep and the wide evaluations of a training make the same number of supervision steps per test input: TIMES as many
on one trajectory, or TIMES trajectories. Naive noise has the width that GRAM's prior learns at `cpu` scale.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.experiments.spec import Claim, Group, Row, Table, Wide, recursion
from solver.model.config import ModelConfig
from solver.model.equations import GRAM

TIMES = 20
"""Number of trajectories, or factor on the supervision steps; published number of samples (GRAM, table 1)."""

WIDTH_OF: dict[Group, float] = {"sudoku": 0.27, "queens": 0.27, "arc": 0.27}
"""Noise widths of the controls: those that GRAM learnt at `cpu` scale (`prior_width` in metrics.jsonl)."""

GROUPS: dict[Group, str] = {"sudoku": "Sudoku", "queens": "N-Queens", "arc": "ARC"}

KL: dict[str, Any] = {"train.evidence.kl_weight": 0.02, "train.evidence.kl_warmup": 0.0}
"""Chosen on N-Queens with seed 0 at `cpu` scale, among weights from 0.02 to 2 (docs/lab_notebook.md)."""


def gram(base: ModelConfig) -> Mapping[str, Any]:
    """Return the settings of GRAM: the base with noise whose mean and width are learnt."""
    return {**recursion(GRAM), **KL}


def as_published(base: ModelConfig) -> Mapping[str, Any]:
    """Return the settings of GRAM as published.

    Every transition of training draws from the posterior, including those without a KL term, and the cells' loss is of
    the posterior's prediction only.
    """
    return {**gram(base), "train.evidence.posterior": "all", "train.evidence.prior_share": 0.0}


def posterior_only(base: ModelConfig) -> Mapping[str, Any]:
    """Return the settings of GRAM with the cells' loss of the posterior's prediction only."""
    return {**gram(base), "train.evidence.prior_share": 0.0}


def _naive(width: float) -> Any:
    return lambda base: {**recursion(GRAM), "model.noise": "naive", "model.noise_width": width}


PUBLISHED = {
    "sudoku": {"TRM": ("87.4", ""), "TRM, deeper": ("90.5", ""), "TRM, noise, by halting head": ("98.75", ""),
               "GRAM, wider, by value head": ("97.0", "")},
    "queens": {"TRM": ("66.8", "36.1"), "GRAM, wider, voted": ("99.7", "90.3")},
    "arc": {"TRM": ("44.6", ""), "GRAM, wider, voted": ("52.0", "")},
}  # fmt: skip


def _rows_of(group: Group) -> Iterator[Row]:
    label = GROUPS[group]
    width = WIDTH_OF[group]
    trainings: dict[str, Any] = {"TRM": lambda base: {}, "GRAM": gram, "naive noise": _naive(width)}
    ways: dict[str, dict[str, Wide]] = {
        "TRM": {
            "": Wide(),
            "deeper": Wide(deeper=TIMES),
            "noise, voted": Wide(TIMES, noise=width),
            "noise, by halting head": Wide(TIMES, noise=width, ranker="best"),
        },
        "GRAM": {
            "": Wide(),
            "deeper": Wide(deeper=TIMES),
            "wider, voted": Wide(TIMES),
            "wider, by halting head": Wide(TIMES, ranker="best"),
            "wider, by value head": Wide(TIMES, ranker="value"),
        },
        "naive noise": {
            "": Wide(),
            "wider, voted": Wide(TIMES),
            "wider, by halting head": Wide(TIMES, ranker="best"),
        },
    }
    if group == "queens":
        for name, changes in (("GRAM as published", as_published), ("GRAM only told", posterior_only)):
            trainings[name] = changes
            ways[name] = {"": Wide(), "wider, voted": Wide(TIMES)}
    for model, changes in trainings.items():
        for way, ask in ways[model].items():
            name = f"{model}, {way}" if way else model
            published = PUBLISHED[group].get(name, ("", ""))
            training = None if not way else f"{model}, {label}"
            yield Row(f"{name}, {label}", changes, published, group, ask, training)


def _claims_of(group: Group) -> Iterator[Claim]:
    label = GROUPS[group]
    for above, below in (
        ("GRAM, wider, voted", "TRM"),
        ("GRAM, wider, voted", "GRAM, deeper"),
        ("GRAM, wider, by value head", "GRAM, wider, voted"),
        ("GRAM, wider, voted", "TRM, noise, voted"),
        ("GRAM, wider, voted", "naive noise, wider, voted"),
        ("TRM, noise, by halting head", "TRM"),
        ("TRM, noise, by halting head", "TRM, deeper"),
        ("TRM, noise, by halting head", "TRM, noise, voted"),
        ("TRM, deeper", "TRM"),
    ):
        yield Claim(f"{above}, {label}", f"{below}, {label}")


NOTE = (
    f"Deeper: one prediction after {TIMES} times as many supervision steps. Noise and wider: {TIMES} predictions each, "
    "ranked by votes, or by the halting head or the value head. TRM, noise: added between supervision steps at "
    "prediction only, as PTRM does. Naive noise: trained and evaluated with noise where GRAM has it, about as wide as "
    "GRAM has learnt it, but with mean 0 and not learnt. GRAM: in training only transitions with a KL term draw from "
    "the posterior, and half of the cells' loss is of the prior's prediction. GRAM only told: all of the cells' loss "
    "is of the posterior's prediction. GRAM as published: the same, and all transitions draw from the posterior. "
    "Pass@1, pass@2: a right prediction is first, or among the first two. Coverage: the share of all solutions that "
    "are among the predictions. Compute: supervision steps per test input, relative to one trajectory of the usual "
    "depth."
)

WIDTH = Table(
    "Depth against width",
    "GRAM, arXiv 2605.19376, table 1, figure 4 (Sudoku-Extreme, N-Queens 8x8, ARC-AGI-1); PTRM, arXiv 2605.19943; TRM, "
    "arXiv 2510.04871",
    ("accuracy, %", "coverage, %"),
    tuple(row for group in GROUPS for row in _rows_of(group)),
    tuple(claim for group in GROUPS for claim in _claims_of(group)),
    note=NOTE,
)
