"""Rankers: functions that order the candidates of a test input, and their registry.

A ranker takes the table of votes (`Votes`) and returns a tuple of arrays, each with one value per candidate. A larger
value is better, and each array breaks the ties of the one before. Candidates that are still equal stay in the order in
which they were first predicted.

To add a ranker, write a file like this and pass its path: `vote ... --ranker mine.py`.

    from submissions.rankers import ranker

    @ranker("mine", source="where the idea comes from", scored="the score it reached")
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

from augment.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Votes:
    """The predictions that count as votes (R rows) and the candidates (C), the different grids of each test input.

    Predictions are in their original order, candidates in the order in which they were first predicted.

    Attributes:
        candidate_R: index of the candidate that each prediction equals.
        halting_R: halting probability, 0 to 1.
        log_prob_R: mean log-probability of the grid; NaN if unknown.
        step_R: supervision step.
        augmentation_R: number of the augmentation.
        input_C: number of the test input.
        height_C, width_C: sides of the grid.
        product_C: mean over augmentations of the rescored log-probability; -inf for a candidate that was not
            rescored, None without rescoring.
        value_R: output of the value head; None or NaN if the model has no value head.
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
        """Return the sum of a value over each candidate's predictions, added in their order."""
        sums = np.bincount(self.candidate_R, np.asarray(values_R, np.float64), minlength=len(self.input_C))
        return sums.astype(np.float64)

    def best(self, values_R: ArrayLike) -> Array:
        """Return the largest value among each candidate's predictions."""
        largest = np.full(len(self.input_C), -np.inf)
        np.maximum.at(largest, self.candidate_R, np.asarray(values_R, np.float64))
        return largest

    @cached_property
    def count(self) -> Array:
        """Number of predictions of each candidate."""
        return np.bincount(self.candidate_R, minlength=len(self.input_C)).astype(np.float64)

    @cached_property
    def confidence(self) -> Array:
        """Mean halting probability of each candidate's predictions."""
        return self.total(self.halting_R) / self.count

    @cached_property
    def log_prob(self) -> Array:
        """Mean over each candidate's predictions of the mean log-probability of the grid."""
        return self.total(self.log_prob_R) / self.count


Rank = Callable[[Votes], tuple[Array, ...]]


@dataclass(frozen=True)
class Ranker:
    """A registered ranking function, its origin and its requirements.

    Attributes:
        name: the name to choose it by.
        rank: the ranking function.
        source: where the method comes from.
        scored: scores reached with it.
        steps: "last" counts the predictions of the last supervision step, "all" those of every recorded step.
        rescored: whether it needs candidates that were scored under every augmentation.
        judged: whether it needs the value head.
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
    """Register the decorated function as the ranker `name`; see `Ranker` for the arguments."""

    def register(rank: Rank) -> Rank:
        RANKERS[name] = Ranker(name, rank, source, scored, steps, rescored, judged)
        return rank

    return register


def find_ranker(name: str) -> Ranker:
    """Return the ranker called `name`, or the last one that the Python file `name` defines.

    Raises:
        ValueError: with the available names for an unknown name, or with what is wrong with the file.
    """
    if name.endswith(".py"):
        return _load_ranker(Path(name))
    if name not in RANKERS:
        raise UserError(
            f"unknown ranker '{name}': choose one of {', '.join(sorted(RANKERS))}, or give a .py file with your own"
        )
    return RANKERS[name]


def _load_ranker(path: Path) -> Ranker:
    if not path.is_file():
        raise UserError(f"{path}: no such file", "give a Python file that defines a ranker")
    before = dict(RANKERS)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        raise UserError(f"{path}: cannot be run as a Python file: {type(error).__name__}: {error}") from error
    # Compared by identity, because the file may register a new ranker under an existing name.
    new_rankers = [entry for name, entry in RANKERS.items() if before.get(name) is not entry]
    if not new_rankers:
        raise UserError(f"{path}: defines no ranker", "put @ranker(...) from submissions.rankers above your function")
    return new_rankers[-1]


@ranker(
    "count",
    source="published: TRM's evaluator (Jolicoeur-Martineau 2025), after HRM's",
    scored="44.4% on ARC-AGI-1 and 4.6% on ARC-AGI-2, by others; 24.7 and 18.7% in two seeds of the cpu recipe",
)
def by_count(votes: Votes) -> tuple[Array, ...]:
    """Most predictions first, then the higher mean halting probability."""
    return votes.count, votes.confidence


@ranker(
    "confidence",
    source="the halting head as a verifier of predictions, as in PTRM (Sghaier et al. 2026)",
    scored="as count in the cpu recipe, both seeds",
)
def by_confidence(votes: Votes) -> tuple[Array, ...]:
    """The larger sum of halting probabilities: votes weighted by halting probability."""
    return votes.total(votes.halting_R), votes.count


@ranker(
    "likelihood",
    source="ranking samples by their own log-probability, as language models do",
    scored="7.3 and 11.3% in two seeds of the cpu recipe, where count has 24.7 and 18.7%",
)
def by_likelihood(votes: Votes) -> tuple[Array, ...]:
    """The higher mean log-probability of the candidate's predictions, regardless of their number."""
    return votes.log_prob, votes.count, votes.confidence


@ranker(
    "steps",
    source="pooling the predictions of all supervision steps: needs predict --steps all",
    scored="4.7% of ARC-AGI-2's outputs, the last step 5.2%, by others; 36.7 and 28.7% in the cpu recipe",
    steps="all",
)
def by_steps(votes: Votes) -> tuple[Array, ...]:
    """As `count`, over the predictions of every recorded supervision step."""
    return votes.count, votes.confidence


@ranker(
    "product",
    source="product of experts over augmentations (Franzen et al. 2025, the ARChitects): needs predict --rescore K",
    scored="6.4% of ARC-AGI-2's outputs, counting 5.2%, by others; 24.7 and 22.0% in the cpu recipe",
    rescored=True,
)
def by_product(votes: Votes) -> tuple[Array, ...]:
    """The higher log-probability under all augmentations together; candidates not rescored follow, by count."""
    assert votes.product_C is not None
    return votes.product_C, votes.count, votes.confidence


@ranker(
    "shape",
    source="published runs rarely solve outputs of another shape than the input (0 of 48 in one run, by others)",
    scored="as count in the cpu recipe, both seeds",
)
def by_shape(votes: Votes) -> tuple[Array, ...]:
    """Votes on the output's shape first, then as `count` within the shape."""
    keys = (votes.input_C * 256 + votes.height_C) * 256 + votes.width_C
    _, shape_C = np.unique(keys, return_inverse=True)
    shape_votes = np.bincount(shape_C, votes.count)[shape_C]
    return shape_votes.astype(np.float64), votes.count, votes.confidence


@ranker(
    "best",
    source="the trajectory with the highest halting probability, as in PTRM (Sghaier et al. 2026)",
    scored="see table width in docs/ablations.md",
)
def by_best(votes: Votes) -> tuple[Array, ...]:
    """The highest halting probability of any one prediction of the candidate, regardless of their number."""
    return votes.best(votes.halting_R), votes.count


@ranker(
    "value",
    source="best of N by a learned value of the latent (GRAM, Baek et al. 2026): needs a recursion with noise",
    scored="see table width in docs/ablations.md",
    judged=True,
)
def by_value(votes: Votes) -> tuple[Array, ...]:
    """The highest output of the value head for any one prediction of the candidate."""
    assert votes.value_R is not None
    return votes.best(votes.value_R), votes.count
