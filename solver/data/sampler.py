"""Puzzle rows in, examples (puzzle, pair) out: which examples come next.

The published rule: an epoch visits every task once in random order, takes one random puzzle of it and all its pairs in
random order, and fills batches across puzzle and epoch borders; the puzzle at a batch's end is cut to fit. `Sampler`
does that without end, from its seed alone: batches are global, and each of several processes renders its own rows.
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
"""A puzzle, how many pairs it has, and the generator that orders them."""


def visit_tasks(order: Rows, starts: Rows, pair_counts: Rows, rng: Any) -> Iterator[Visit]:
    """For each task of `order` a random puzzle of its rows (starts[task] to starts[task + 1])."""
    for task in order:
        yield int(rng.integers(starts[task], starts[task + 1])), int(pair_counts[task]), rng


def fill_batch(visits: Iterator[Visit], size: int, cut: bool = True) -> tuple[Rows, Rows]:
    """(puzzles, pairs) of the next `size` examples, fewer where the visits end.

    The last puzzle is cut to fit, its other pairs are lost; with `cut` False it is whole and may exceed `size`.
    """
    puzzles = []
    pairs = [np.zeros(0, np.int64)]
    room = size
    while room > 0 and (visit := next(visits, None)):
        puzzle, count, rng = visit
        chosen = rng.choice(count, min(count, room) if cut else count, replace=False)
        puzzles.append(np.full(len(chosen), puzzle))
        pairs.append(chosen)
        room -= len(chosen)
    return np.concatenate([pairs[0], *puzzles]), np.concatenate(pairs)


def weigh_tasks(sources: Sequence[str], source_weights: Sequence[tuple[str, float]]) -> NDArray[np.float64]:
    """The weight of each task (tasks,), 1 where its source is given none; ValueError for a source that no task has."""
    weights = dict(source_weights)
    unknown = sorted(set(weights) - set(sources))
    if unknown:
        known = ", ".join(sorted(set(sources)))
        raise ValueError(f"train.source_weights: the puzzle set has no source {', '.join(unknown)}; it has {known}")
    return np.array([weights.get(source, 1.0) for source in sources])


class Sampler:
    """Endless batches of examples, with a position that can be saved and resumed anywhere, bit for bit.

    Args:
        starts: (tasks + 1,): first puzzle row of each task, then the number of puzzles.
        pair_counts: (tasks,): pairs to train on; a task without one is passed over.
        seed: every epoch is drawn from (seed, epoch).
        weights: (tasks,): visits per epoch on average, 1 each by default. A fraction is a chance drawn every epoch.
        keep_rest: the pairs cut off at a batch's end begin the next batch; as published they are lost.
        visits: "tasks", the published rule, or "pairs": every example is drawn by itself, first a task by its weight,
            then one of its puzzles, then one of its pairs, each uniformly, as a function of (seed, batch).
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
            raise ValueError("no task is left to train on: each has weight 0 or no pair; raise a weight")
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
        """(puzzles, pairs) of the next `size` examples."""
        if self.visits == "pairs":
            self.step += 1
            return self._draw_pairs(size, self.step)
        drawn = np.array(fill_batch(self._visits, size - self._rest.shape[1], cut=not self.keep_rest))
        drawn = np.concatenate([self._rest, drawn], axis=1)
        self._rest = drawn[:, size:]
        self.step = self.step + 1
        return drawn[0, :size], drawn[1, :size]

    def _draw_pairs(self, size: int, step: int) -> tuple[Rows, Rows]:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, step], counter=[0, 0, 0, 7]))
        shares = self.weights * (self.pair_counts > 0)
        tasks = rng.choice(len(shares), size, p=shares / shares.sum())
        starts = self.starts[tasks]
        counts = np.diff(self.starts)[tasks]
        return starts + rng.integers(counts), rng.integers(self.pair_counts[tasks])

    @property
    def position(self) -> dict[str, Any]:
        """Where the next batch begins, as plain JSON values."""
        return {
            "drawn_from": self._drawn_from(),
            "step": self.step,
            "epoch": self._epoch,
            "visits": self._visited,
            "rest": self._rest.tolist(),
            "generator": json.loads(json.dumps(self._rng.bit_generator.state, default=np.ndarray.tolist)),
        }

    def resume(self, position: dict[str, Any]) -> None:
        """Go on from a position of a sampler of the same seed, tasks, weights and `keep_rest`; else ValueError."""
        ours = self._drawn_from()
        theirs = {"visits": "tasks"} | position["drawn_from"]
        other = [f"{name} is {theirs[name]} there and {ours[name]} here" for name in ours if ours[name] != theirs[name]]
        if other:
            raise ValueError(f"the sampler's position is of another run: {'; '.join(other)}; train as it was begun")
        self._begin_epoch(position["epoch"], position["visits"])
        self._visits = self._endless_visits()
        self._rng.bit_generator.state = position["generator"]
        self._rest = np.array(position["rest"], np.int64)
        self.step = position["step"]

    def _drawn_from(self) -> dict[str, Any]:
        """What the stream of examples depends on; tasks and weights as a checksum."""
        digest = sha256()
        for values, kind in ((self.starts, np.int64), (self.pair_counts, np.int64), (self.weights, np.float64)):
            digest.update(np.asarray(values, kind).tobytes())
        drawn = {"seed": self.seed, "keep_rest": self.keep_rest, "visits": self.visits}
        return drawn | {"digest of tasks and weights": digest.hexdigest()[:16]}

    def _begin_epoch(self, epoch: int, visited: int = 0) -> None:
        """Order the epoch's tasks and go on after the first `visited` of them."""
        self._epoch = epoch
        self._visited = visited
        self._rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        # A stream of its own, so that weights of 1 leave the published draws where they are.
        chance = np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, 4]))
        sure = np.floor(self.weights)
        times = sure + (chance.random(len(sure)) < self.weights - sure)
        tasks = np.repeat(np.arange(len(times)), np.where(self.pair_counts > 0, times, 0).astype(np.int64))
        self._order = self._rng.permutation(tasks)

    def _endless_visits(self) -> Iterator[Visit]:
        while True:
            for visit in visit_tasks(self._order[self._visited :], self.starts, self.pair_counts, self._rng):
                self._visited += 1
                yield visit
            self._begin_epoch(self._epoch + 1)
