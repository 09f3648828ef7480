"""Rankers: what puts the candidates of a test input in order. Each is a small function of one table.

In: the table of votes (`Votes`). Out: a tuple of arrays, one value per candidate; more is better, and the next array
settles ties of the one before. What is still equal keeps the order first seen.

To add one, write a file like this and name it: `vote ... --ranker mine.py`.

    from submissions.rankers import ranker

    @ranker("mine", source="how it came about", scored="what it reached")
    def by_certain_votes(votes):
        return (votes.total(votes.halting_R > 0.5),)
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Votes:
    """The answers that count (R) and the different grids they gave to each test input, the candidates (C).

    Answers, in the order first seen:
        candidate_R: which candidate; halting_R: halting probability, 0 to 1; log_prob_R: mean log-probability of the
        grid, NaN where it is not known; step_R: supervision step; augmentation_R: number of the augmentation
    Candidates:
        input_C: which test input; height_C, width_C: sides
        product_C: mean over augmentations of the log-probability that rescoring gave, -inf where it gave none; None
        without rescoring
    Answers again: value_R: what the value head says of each, None or not a number where the model has none
    """

    candidate_R: NDArray[np.int64]
    halting_R: Array
    log_prob_R: NDArray[np.float32]
    step_R: NDArray[np.uint16]
    augmentation_R: NDArray[np.uint32]
    input_C: NDArray[np.int64]
    height_C: NDArray[np.uint8]
    width_C: NDArray[np.uint8]
    product_C: Array | None = None
    value_R: NDArray[np.float32] | None = None

    def total(self, values_R: ArrayLike) -> Array:
        """Sum of a value over each candidate's answers, added in their order."""
        sums = np.bincount(self.candidate_R, np.asarray(values_R, np.float64), minlength=len(self.input_C))
        return sums.astype(np.float64)

    def best(self, values_R: ArrayLike) -> Array:
        """The largest value among each candidate's answers."""
        largest = np.full(len(self.input_C), -np.inf)
        np.maximum.at(largest, self.candidate_R, np.asarray(values_R, np.float64))
        return largest

    @cached_property
    def count(self) -> Array:
        """Answers that gave each candidate."""
        return np.bincount(self.candidate_R, minlength=len(self.input_C)).astype(np.float64)

    @cached_property
    def confidence(self) -> Array:
        """Mean halting probability of each candidate's answers."""
        return self.total(self.halting_R) / self.count

    @cached_property
    def log_prob(self) -> Array:
        """Mean over each candidate's answers of the mean log-probability of the grid."""
        return self.total(self.log_prob_R) / self.count


Rank = Callable[[Votes], tuple[Array, ...]]


@dataclass(frozen=True)
class Ranker:
    """How candidates are ordered, where that comes from, and what it scored.

    steps: "last" counts the answers of the last supervision step, "all" those of every step recorded
    rescored: it needs candidates that were scored under every augmentation
    judged: it needs the value head
    """

    name: str
    rank: Rank
    source: str
    scored: str
    steps: Literal["last", "all"] = "last"
    rescored: bool = False
    judged: bool = False


RANKERS: dict[str, Ranker] = {}


def ranker(
    name: str,
    *,
    source: str,
    scored: str,
    steps: Literal["last", "all"] = "last",
    rescored: bool = False,
    judged: bool = False,
) -> Callable[[Rank], Rank]:
    """Make a function a ranker that can be chosen by this name; see Ranker."""

    def register(rank: Rank) -> Rank:
        RANKERS[name] = Ranker(name, rank, source, scored, steps, rescored, judged)
        return rank

    return register


def find_ranker(name: str) -> Ranker:
    """The ranker of this name, or the last one that a Python file defines.

    Raises:
        ValueError: listing the names there are, or saying what is wrong with the file.
    """
    if name.endswith(".py"):
        return _load_ranker(Path(name))
    if name not in RANKERS:
        raise ValueError(
            f"unknown ranker '{name}': choose one of {', '.join(sorted(RANKERS))}, or name a .py file with one of yours"
        )
    return RANKERS[name]


def _load_ranker(path: Path) -> Ranker:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a Python file that defines a ranker")
    before = dict(RANKERS)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        raise ValueError(f"{path}: cannot be run as a Python file: {type(error).__name__}: {error}") from error
    defined = [each for name, each in RANKERS.items() if before.get(name) is not each]
    if not defined:
        raise ValueError(f"{path}: defines no ranker; put @ranker(...) from submissions.rankers before your function")
    return defined[-1]


@ranker(
    "count",
    source="published: TRM's evaluator (Jolicoeur-Martineau 2025), after HRM's",
    scored="44.4% on ARC-AGI-1 and 4.6% on ARC-AGI-2, by others; 24.7 and 18.7% in two seeds of the cpu recipe",
)
def by_count(votes: Votes) -> tuple[Array, ...]:
    """Most answers first, then the higher mean halting probability."""
    return votes.count, votes.confidence


@ranker(
    "confidence",
    source="the halting head as a judge of answers, as in PTRM (Sghaier et al. 2026)",
    scored="as count in the cpu recipe, both seeds",
)
def by_confidence(votes: Votes) -> tuple[Array, ...]:
    """The larger sum of halting probabilities: votes that count as much as the model trusts them."""
    return votes.total(votes.halting_R), votes.count


@ranker(
    "likelihood",
    source="ranking samples by their own log-probability, as language models do",
    scored="7.3 and 11.3% in two seeds of the cpu recipe, where count has 24.7 and 18.7%",
)
def by_likelihood(votes: Votes) -> tuple[Array, ...]:
    """The higher mean log-probability of the answers that gave it, however few they are."""
    return votes.log_prob, votes.count, votes.confidence


@ranker(
    "steps",
    source="pooling the answers of all supervision steps: needs predict --steps all",
    scored="4.7% of ARC-AGI-2's outputs, the last step 5.2%, by others; 36.7 and 28.7% in the cpu recipe",
    steps="all",
)
def by_steps(votes: Votes) -> tuple[Array, ...]:
    """As `count`, over the answers of every supervision step recorded."""
    return votes.count, votes.confidence


@ranker(
    "product",
    source="product of experts over augmentations (Franzen et al. 2025, the ARChitects): needs predict --rescore K",
    scored="6.4% of ARC-AGI-2's outputs, counting 5.2%, by others; 24.7 and 22.0% in the cpu recipe",
    rescored=True,
)
def by_product(votes: Votes) -> tuple[Array, ...]:
    """The higher log-probability under all augmentations together; what was not rescored comes after, by count."""
    assert votes.product_C is not None
    return votes.product_C, votes.count, votes.confidence


@ranker(
    "shape",
    source="published runs rarely solve outputs whose shape is not their input's (0 of 48 in one run, by others)",
    scored="as count in the cpu recipe, both seeds",
)
def by_shape(votes: Votes) -> tuple[Array, ...]:
    """Votes on the output's shape first, then as `count` within the shape."""
    keys = (votes.input_C * 256 + votes.height_C) * 256 + votes.width_C
    _, shape_C = np.unique(keys, return_inverse=True)
    voters = np.bincount(shape_C, votes.count)[shape_C]
    return voters.astype(np.float64), votes.count, votes.confidence


@ranker(
    "best",
    source="the trajectory that the halting head trusts most, as in PTRM (Sghaier et al. 2026)",
    scored="see table width in docs/ablations.md",
)
def by_best(votes: Votes) -> tuple[Array, ...]:
    """The highest halting probability of any one answer that gave it, however few they are."""
    return votes.best(votes.halting_R), votes.count


@ranker(
    "value",
    source="best of N by a learnt value of the latent (GRAM, Baek et al. 2026): needs a recursion with noise",
    scored="see table width in docs/ablations.md",
    judged=True,
)
def by_value(votes: Votes) -> tuple[Array, ...]:
    """The highest value that the value head gives to any one answer that gave it."""
    assert votes.value_R is not None
    return votes.best(votes.value_R), votes.count
