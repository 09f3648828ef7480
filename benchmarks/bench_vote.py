"""How long it takes from the model's tokens to two attempts per test input: crop, undo, hash, vote; and through files.

    python -m benchmarks.bench_vote [--augmentations 1000] [--share 0.1] [--out FILE]

Answers to ARC-AGI-1's public evaluation are made up: half are right, the others have up to three cells changed at
random, so that nearly each of them is a candidate of its own (the hard case). They are fed as uint8 batches of 768 on
the full board. The plain way does as published, without files: example by example it parses the puzzle's name, crops
board and input, undoes both, hashes both, pools by the input and votes; it gets a share of the same batches in the same
run, and must give the same attempts. Making answers up is not timed.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "2"  # read on import: pyarrow takes as many

import resource
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from augment import IDENTITY, PuzzleSet, SourcedTasks, Task, build_puzzle_set, load_tasks
from pipeline.runtime.provenance import processor, versions
from solver.data.batches import PuzzleDataset
from solver.data.decode import decode_batch
from solver.data.tokens import COLOUR, largest_corner
from submissions import Predictions, Submission, make_submission, read_predictions, vote
from submissions.grid_table import Grids, collect_rows, join_grids
from submissions.prediction_files import join_shards, read_shard, write_shard
from submissions.predictions import PredictionRows, Shard

SIZE, SIDE, STEPS = 768, 30, 16
BATCHES_A_PART = 5
SOURCE = "arc-agi-1/evaluation"
IN_MEMORY = "crop and undo", "hash and collect grids", "vote, two attempts each"
THROUGH_FILES = "write parts", "join parts", "read them"
PUBLISHED = "47 s and 2.6 GiB for 385,815 predictions, one thread of such a machine"


@dataclass(frozen=True, eq=False)
class Batch:
    """Tokens (n, 900) as a model would give them, what they answer, and the halting logits (n,)."""

    tokens: np.ndarray
    inputs: np.ndarray
    tasks: np.ndarray
    tests: np.ndarray
    puzzles: np.ndarray
    logits: np.ndarray


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; its seconds are added to the name's."""
        start = perf_counter()
        result = work()
        self.seconds[name] += perf_counter() - start
        return result


class Answered:
    """A puzzle set whose test inputs were answered, batch by batch."""

    def __init__(self, tasks: list[Task], augmentations: int):
        # As train tasks, so that their test outputs are there to be answered.
        self.set: PuzzleSet = build_puzzle_set([SourcedTasks(SOURCE, "train", tasks)], augmentations, seed=0)
        self.examples = PuzzleDataset(self.set, "full")
        self.demonstrations = np.array([len(task.demonstrations) for task in self.set.tasks])
        asked = [
            (puzzle, self.demonstrations[number] + test)
            for number, task in enumerate(self.set.tasks)
            for test in range(len(task.tests))
            for puzzle in range(self.set.starts[number], self.set.starts[number + 1])
        ]
        self.puzzles, self.pairs = np.array(asked).T

    def batches(self, number: int | None = None) -> Iterator[Batch]:
        """All of them, or the first `number`, always the same."""
        rng = np.random.default_rng(0)
        for start in range(0, len(self.puzzles), SIZE)[:number]:
            puzzles, pairs = self.puzzles[start : start + SIZE], self.pairs[start : start + SIZE]
            batch = self.examples.render(puzzles, pairs)
            inputs, tokens = (given.numpy().astype(np.uint8) for given in (batch.tokens_BS, batch.labels_BS))
            for row in np.flatnonzero(rng.random(len(tokens)) < 0.5):
                cells = rng.choice(np.flatnonzero(tokens[row] >= COLOUR), 3)
                tokens[row, cells] = rng.integers(COLOUR, 12, 3)
            tasks = self.examples.tasks[puzzles]
            yield Batch(
                tokens, inputs, tasks, pairs - self.demonstrations[tasks], puzzles, rng.normal(size=len(tokens))
            )


def our_way(answered: Answered, clock: Clock, folder: Path, number: int | None = None) -> Submission:
    """Decode and undo in numba, vote on columns; and what it takes to have the same through files."""
    tasks, parts = [task.id for task in answered.set.tasks], []
    for batches in groups(answered.batches(number), BATCHES_A_PART):
        decoded = [clock.time("crop and undo", partial(decode, answered, batch)) for batch in batches]
        pairs = zip(batches, decoded, strict=True)
        waiting = [clock.time("hash and collect grids", partial(collect, answered, *pair)) for pair in pairs]
        part = clock.time("hash and collect grids", partial(join, waiting))
        clock.time("write parts", partial(write_shard, folder, len(parts), part, tasks))
        parts.append(part)
    whole = clock.time("hash and collect grids", lambda: join([(part.rows, part.grids) for part in parts]))
    predictions = Predictions({}, tuple(tasks), whole.rows, whole.grids)
    submission = clock.time("vote, two attempts each", lambda: attempts(predictions, answered.set.tasks))
    read = (read_shard(folder, part, tasks) for part in range(len(parts)))
    clock.time("join parts", lambda: join_shards(folder / "predictions", read, tasks, {}))
    again = clock.time("read them", lambda: read_predictions(folder / "predictions"))
    if attempts(again, answered.set.tasks) != submission:
        raise ValueError("the attempts are others through files; mend that before timing")
    return submission


def groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """So many batches at a time."""
    while group := list(islice(batches, size)):
        yield group


def attempts(predictions: Predictions, tasks: Sequence[Task]) -> Submission:
    """Two for every test input."""
    return make_submission(vote(predictions, tasks), tasks)


def decode(answered: Answered, batch: Batch) -> Any:
    """Crop and undo."""
    number = len(batch.tokens)
    sure = np.full(batch.tokens.shape, -0.1, np.float32)
    augmentations = answered.examples.dihedrals[batch.puzzles], answered.examples.colours[batch.puzzles]
    return decode_batch(batch.tokens, sure, sure, np.full((number, 2), SIDE), *augmentations, SIDE)


def collect(answered: Answered, batch: Batch, decoded: Any) -> tuple[PredictionRows, Grids]:
    """The answers of a batch and its different grids."""
    grids, numbers = collect_rows(decoded.heights, decoded.widths, decoded.cells)
    one = np.ones(len(numbers), np.uint16)
    answers = PredictionRows(
        batch.tasks.astype(np.int32), batch.tests.astype(np.int32), answered.set.augmentations[batch.puzzles],
        0 * one, STEPS * one, one > 0, one < 0, decoded.edges, numbers, decoded.log_probs, batch.logits,
        np.full(len(numbers), np.nan, np.float32),
    )  # fmt: skip
    return answers, grids


def join(several: list[tuple[PredictionRows, Grids]]) -> Shard:
    """Several batches, or parts, as one."""
    grids, numbers = join_grids([grids for _, grids in several])
    moved = [replace(rows, grid=new[rows.grid]) for (rows, _), new in zip(several, numbers, strict=True)]
    return Shard(PredictionRows.joined(moved), grids)


def plain_way(answered: Answered, clock: Clock, number: int) -> Submission:
    """One example after the other, everything in memory."""
    pools: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    grids: dict[str, np.ndarray] = {}
    keys = answered.set.keys()
    for batch in answered.batches(number):
        clock.time("plain way", partial(plain_batch, keys, batch, pools, grids))
    return clock.time("plain way", lambda: plain_vote(answered, pools, grids))


def plain_batch(keys: list[str], batch: Batch, pools: dict, grids: dict[str, np.ndarray]) -> None:
    """Parse the name, crop (compiled, as published), undo by NumPy, hash by SHA-256, pool."""
    for row, puzzle in enumerate(batch.puzzles):
        task, _, name = keys[puzzle].partition("|||")
        dihedral, _, digits = (name or IDENTITY.name).partition("|||")
        asked, answer = (
            undo(board[row].reshape(SIDE, SIDE), int(dihedral[1]), digits) for board in (batch.inputs, batch.tokens)
        )
        grids[hash_grid(answer)] = answer
        pools[task, hash_grid(asked)][hash_grid(answer)].append(1 / (1 + np.exp(-batch.logits[row])))


def undo(board: np.ndarray, dihedral: int, digits: str) -> np.ndarray:
    """The grid on the board before its augmentation."""
    height, width = largest_corner(board)
    back = (
        *(partial(np.rot90, k=-turns) for turns in range(4)),
        *(np.fliplr, np.flipud, np.transpose, lambda grid: np.rot90(np.fliplr(grid), 3)),
    )
    colours = np.argsort([int(digit) for digit in digits])
    return colours[back[dihedral](board[:height, :width] - COLOUR)].astype(np.uint8)


def hash_grid(grid: np.ndarray) -> str:
    """As published."""
    return sha256(bytes(grid.shape) + grid.tobytes()).hexdigest()


def plain_vote(answered: Answered, pools: dict, grids: dict[str, np.ndarray]) -> Submission:
    """The first two by (count, mean halting probability)."""
    submission = {}
    for task in answered.set.tasks:
        entries = []
        for pair in task.tests:
            seen = pools[task.id, hash_grid(pair.input)]
            best = sorted(seen, key=lambda name: (len(seen[name]), np.mean(seen[name])), reverse=True)[:2]
            found = [grids[name].tolist() for name in best] or [[[0]]]
            entries.append({"attempt_1": found[0], "attempt_2": found[-1]})
        submission[task.id] = entries
    return submission


def describe(clock: Clock, answers: int, plain: int, memory: float, command: str) -> str:
    """The result file's text."""
    made, seconds = versions(), clock.seconds
    total, files = (sum(seconds[name] for name in names) for names in (IN_MEMORY, THROUGH_FILES))
    scaled = seconds["plain way"] * answers / plain
    lines = [
        f"# From tokens to attempts: `{command}`",
        "",
        f"{answers:,} answers to {SOURCE}, half of them right, fed as uint8 batches of {SIZE} on the full board.",
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds[name]:.2f} |" for name in IN_MEMORY),
        f"| **together** | **{total:.2f}** |",
        f"| the plain way, {plain:,} answers, scaled to all | {scaled:.1f} |",
        *(f"| besides, through files: {name} | {seconds[name]:.2f} |" for name in THROUGH_FILES),
        "",
        f"{answers / total:,.0f} answers a second, **{scaled / total:.1f} times** the plain way's. With files "
        f"{total + files:.2f} s. Peak memory {memory:.0f} MiB, torch and the making of answers included. "
        f"Published: {PUBLISHED}.",
        "",
        f"{processor()}, {made['cores']} cores, 2 threads. Commit {made['commit']}, numpy {np.__version__}, "
        f"numba {made['numba']}, pyarrow {made['pyarrow']}, Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def run(tasks: list[Task], augmentations: int, share: float) -> tuple[Clock, int, int, float]:
    """Both ways on the same answers; ValueError where they do not give the same attempts."""
    answered, clock = Answered(tasks, augmentations), Clock()
    number = max(1, round(share * len(answered.puzzles) / SIZE))
    with TemporaryDirectory() as first, TemporaryDirectory() as checked, TemporaryDirectory() as whole:
        our_way(answered, Clock(), Path(first), 1)  # compiles kernels
        ours = our_way(answered, Clock(), Path(checked), number)
        our_way(answered, clock, Path(whole))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if plain_way(answered, clock, number) != ours:
        raise ValueError("the plain way gives other attempts; mend it before timing")
    return clock, len(answered.puzzles), min(number * SIZE, len(answered.puzzles)), memory


def main(
    augmentations: int = 1000,
    share: Annotated[float, typer.Option(help="The plain way gets this share of the batches")] = 0.1,
    limit: Annotated[int | None, typer.Option(help="Only so many tasks, to try it")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
) -> None:
    """Time both ways on the same answers."""
    command = f"python -m benchmarks.bench_vote --augmentations {augmentations} --share {share}"
    text = describe(*run(load_tasks(SOURCE)[:limit], augmentations, share), command)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
