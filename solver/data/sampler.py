"""Sampling of training examples: an endless sequence of batches of (puzzle, pair), determined by a seed.

The published rule: an epoch visits every task once in random order, and takes one random puzzle of the task and all its
pairs in random order. Batches are filled across puzzle and epoch borders; the puzzle at the end of a batch is cut to
fit. Batches are global: each of several processes draws the whole batch and renders its own rows.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver.data.choices import Visits

Rows = NDArray[np.int64]
Visit = tuple[int, int, Any]
"""A puzzle, the number of its pairs, and the generator that orders them."""


def visit_tasks(order: Rows, starts: Rows, pair_counts: Rows, rng: Any) -> Iterator[Visit]:
    """Yield for each task of `order` a random puzzle among its rows (starts[task] to starts[task + 1])."""
    for task in order:
        yield int(rng.integers(starts[task], starts[task + 1])), int(pair_counts[task]), rng


def fill_batch(visits: Iterator[Visit], size: int, cut: bool = True) -> tuple[Rows, Rows]:
    """Return (puzzles, pairs) of the next `size` examples, fewer if the visits end.

    The last puzzle is cut to fit and its other pairs are lost. With `cut` False all its pairs are returned, which may
    exceed `size`.
    """
    puzzles = []
    pairs = [np.zeros(0, np.int64)]
    room = size
    while room > 0 and (visit := next(visits, None)):
        puzzle, count, rng = visit
        puzzle_pairs = rng.choice(count, min(count, room) if cut else count, replace=False)
        puzzles.append(np.full(len(puzzle_pairs), puzzle))
        pairs.append(puzzle_pairs)
        room -= len(puzzle_pairs)
    return np.concatenate([pairs[0], *puzzles]), np.concatenate(pairs)


def weigh_tasks(sources: Sequence[str], source_weights: Sequence[tuple[str, float]]) -> NDArray[np.float64]:
    """Return the weight of each task (tasks,), which is that of its source, or 1 by default.

    Raises:
        ValueError: if a weight is given for a source that no task has.
    """
    weights = dict(source_weights)
    unknown = sorted(set(weights) - set(sources))
    if unknown:
        known = ", ".join(sorted(set(sources)))
        raise ValueError(f"train.source_weights: the puzzle set has no source {', '.join(unknown)}; it has {known}")
    return np.array([weights.get(source, 1.0) for source in sources])


class Sampler:
    """Endless batches of examples, whose position can be saved and resumed exactly.

    Args:
        starts: (tasks + 1,): first puzzle row of each task, then the number of puzzles.
        pair_counts: (tasks,): pairs to train on; a task without one is skipped.
        seed: every epoch is drawn from (seed, epoch).
        weights: (tasks,): visits per epoch on average, by default 1 each. The fractional part is the probability of one
            more visit, drawn in every epoch.
        keep_rest: the pairs cut off at a batch's end begin the next batch; as published they are lost.
        visits: "tasks", the published rule, or "pairs": every example is drawn independently, first a task by its
            weight, then uniformly one of its puzzles and one of its pairs, from (seed, batch).

    Raises:
        ValueError: if no task has both a positive weight and a pair.
    """

    def __init__(
        self,
        starts: Rows,
        pair_counts: Rows,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        keep_rest: bool = False,
        visits: Visits = "tasks",
    ):
        weights = np.ones(len(pair_counts)) if weights is None else weights
        if not (weights * pair_counts).any():
            raise ValueError(
                "no task is left to train on: each has weight 0 or no pair; give a positive weight in "
                "train.source_weights to a source whose tasks have pairs"
            )
        self.starts = starts
        self.pair_counts = pair_counts
        self.weights = weights
        self.seed = seed
        self.keep_rest = keep_rest
        self.visits = visits
        self.step = 0
        """batches drawn so far"""
        self._rest = np.zeros((2, 0), np.int64)
        self._begin_epoch(0)
        self._visits = self._endless_visits()

    def next_batch(self, size: int) -> tuple[Rows, Rows]:
        """Return (puzzles, pairs) of the next `size` examples."""
        if self.visits == "pairs":
            self.step += 1
            return self._draw_pairs(size, self.step)
        examples = np.array(fill_batch(self._visits, size - self._rest.shape[1], cut=not self.keep_rest))
        examples = np.concatenate([self._rest, examples], axis=1)
        self._rest = examples[:, size:]
        self.step = self.step + 1
        return examples[0, :size], examples[1, :size]

    def _draw_pairs(self, size: int, step: int) -> tuple[Rows, Rows]:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, step], counter=[0, 0, 0, 7]))
        shares = self.weights * (self.pair_counts > 0)
        tasks = rng.choice(len(shares), size, p=shares / shares.sum())
        starts = self.starts[tasks]
        counts = np.diff(self.starts)[tasks]
        return starts + rng.integers(counts), rng.integers(self.pair_counts[tasks])

    @property
    def position(self) -> dict[str, Any]:
        """The state before the next batch, as plain JSON values."""
        return {
            "drawn_from": self._drawn_from(),
            "step": self.step,
            "epoch": self._epoch,
            "visits": self._visited,
            "rest": self._rest.tolist(),
            "generator": json.loads(json.dumps(self._rng.bit_generator.state, default=np.ndarray.tolist)),
        }

    def resume(self, position: dict[str, Any]) -> None:
        """Resume from the position of a sampler with the same seed, tasks, weights, `keep_rest` and `visits`.

        Raises:
            ValueError: if any of these differ.
        """
        current = self._drawn_from()
        # Positions saved before the setting `visits` existed are those of "tasks".
        saved = {"visits": "tasks"} | position["drawn_from"]
        changes = [
            f"{name} is {saved[name]} there and {value} here" for name, value in current.items() if value != saved[name]
        ]
        if changes:
            raise ValueError(
                f"the saved sampler position is from a run with other settings: {'; '.join(changes)}; "
                "resume with the settings and tasks of that run"
            )
        self._begin_epoch(position["epoch"], position["visits"])
        self._visits = self._endless_visits()
        self._rng.bit_generator.state = position["generator"]
        self._rest = np.array(position["rest"], np.int64)
        self.step = position["step"]

    def _drawn_from(self) -> dict[str, Any]:
        """Return everything that the sequence of examples depends on; tasks and weights as a checksum."""
        digest = sha256()
        for values, kind in ((self.starts, np.int64), (self.pair_counts, np.int64), (self.weights, np.float64)):
            digest.update(np.asarray(values, kind).tobytes())
        settings = {"seed": self.seed, "keep_rest": self.keep_rest, "visits": self.visits}
        return settings | {"digest of tasks and weights": digest.hexdigest()[:16]}

    def _begin_epoch(self, epoch: int, visited: int = 0) -> None:
        """Draw the order of the epoch's tasks and continue after the first `visited` of them."""
        self._epoch = epoch
        self._visited = visited
        self._rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        # A separate stream, so that weights of 1 do not change the published draws.
        weight_rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, 4]))
        whole = np.floor(self.weights)
        times = whole + (weight_rng.random(len(whole)) < self.weights - whole)
        tasks = np.repeat(np.arange(len(times)), np.where(self.pair_counts > 0, times, 0).astype(np.int64))
        self._order = self._rng.permutation(tasks)

    def _endless_visits(self) -> Iterator[Visit]:
        while True:
            for visit in visit_tasks(self._order[self._visited :], self.starts, self.pair_counts, self._rng):
                self._visited += 1
                yield visit
            self._begin_epoch(self._epoch + 1)
