"""How fast batches are made: opening a set, sampling and rendering, beside the plain way in NumPy.

    python -m benchmarks.bench_batches [--augmentations 1000] [--rounds 30] [--out FILE]

One thread. The plain way makes the same tokens example by example: turn and recolour both grids, pad them to 30x30 with
end marks, stack. Both ways are timed in turn in one run, so that their ratio holds on a machine whose speed drifts.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read on import: pyarrow opens the set with as many threads

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from augment import Grid, PuzzleSet, SourcedTasks, build_puzzle_set, load_tasks, open_puzzle_set, write_puzzle_set
from augment.augmentation import decode_numbers
from pipeline.runtime.provenance import processor, versions
from solver.data.batches import PuzzleDataset

SIZE, SIDE, END, COLOUR = 768, 30, 1, 2
Boards = tuple[np.ndarray, np.ndarray]


def write_set(folder: Path, augmentations: int) -> None:
    """A set of ARC-AGI-1, both parts, and ConceptARC, every pair to be trained on."""
    names = ("arc-agi-1/training", "arc-agi-1/evaluation", "concept")
    sources = [SourcedTasks(name, "train", load_tasks(name)) for name in names]
    write_puzzle_set(build_puzzle_set(sources, augmentations, seed=0), folder)


class PlainWay:
    """The same boards with NumPy only, an example at a time."""

    TRANSFORMS = (
        lambda grid: grid,
        lambda grid: np.rot90(grid, 1),
        lambda grid: np.rot90(grid, 2),
        lambda grid: np.rot90(grid, 3),
        np.fliplr,
        np.flipud,
        np.transpose,
        lambda grid: np.fliplr(np.rot90(grid, 1)),
    )

    def __init__(self, puzzle_set: PuzzleSet):
        self.tasks = np.repeat(np.arange(len(puzzle_set.tasks)), np.diff(puzzle_set.starts)).tolist()
        self.pairs = [puzzle_set.training_pairs(task) for task in range(len(puzzle_set.tasks))]
        self.dihedrals, self.colours = decode_numbers(puzzle_set.augmentations)

    def render(self, puzzles: np.ndarray, pairs: np.ndarray, shifts: np.ndarray) -> Boards:
        """Input and output tokens (examples, 900)."""
        rows = [self._example(*row) for row in zip(puzzles.tolist(), pairs.tolist(), shifts.tolist(), strict=True)]
        inputs, outputs = zip(*rows, strict=True)
        return np.stack(inputs), np.stack(outputs)

    def _example(self, puzzle: int, pair: int, shift: list[int]) -> list[np.ndarray]:
        transform, colours = self.TRANSFORMS[self.dihedrals[puzzle]], self.colours[puzzle]
        chosen = self.pairs[self.tasks[puzzle]][pair]
        return [_pad(transform(colours[grid]), *shift) for grid in chosen.grids()]


def _pad(grid: Grid, top: int, left: int) -> np.ndarray:
    """The board (900,) with the grid in its place, end marks below and beside it where there is room."""
    height, width = grid.shape
    padded = np.pad(grid.astype(np.int64) + COLOUR, ((top, SIDE - top - height), (left, SIDE - left - width)))
    if top + height < SIDE:
        padded[top + height, left : left + width] = END
    if left + width < SIDE:
        padded[top : top + height, left + width] = END
    return padded.ravel()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it returned."""
    start = perf_counter()
    result = work()
    return perf_counter() - start, result


def check_plain_way(examples: PuzzleDataset, plain: PlainWay, drawn: tuple[np.ndarray, ...]) -> None:
    """ValueError where the two ways make different tokens: then their times say nothing."""
    batch = examples.render(*drawn)
    for ours, theirs in zip((batch.tokens_BS, batch.labels_BS), plain.render(*drawn), strict=True):
        if not np.array_equal(ours.numpy(), theirs):
            raise ValueError("the plain way renders other tokens; mend it before timing")


def time_start(folder: Path) -> dict[str, float]:
    """Seconds from a folder to the first batch on the full board, kernels compiled."""
    opening, puzzle_set = timed(lambda: open_puzzle_set(folder))
    indexing, examples = timed(lambda: PuzzleDataset(puzzle_set, "full"))
    batch, _ = timed(lambda: next(examples.training_batches(SIZE, seed=0)))
    return {"open the set": opening, "index its examples": indexing, f"first batch of {SIZE}": batch}


def time_batches(puzzle_set: PuzzleSet, rounds: int) -> dict[str, float]:
    """Median seconds a batch of sampling, of rendering on both canvases and at each width, and of the plain way."""
    full, task, plain = PuzzleDataset(puzzle_set, "full"), PuzzleDataset(puzzle_set, "task"), PlainWay(puzzle_set)
    sampler, rng = full.sampler(seed=0), np.random.default_rng(0)
    times: dict[str, list[float]] = {}
    rounds_drawn = []
    for number in range(-1, rounds):
        took, (puzzles, pairs) = timed(lambda: sampler.next_batch(SIZE))
        sizes = full.sizes[full.first_pair[full.tasks[puzzles]] + pairs].max(axis=(1, 2))
        drawn = puzzles, pairs, rng.integers(0, SIDE - sizes + 1, (2, SIZE)).T
        if number == -1:  # the first call compiles kernels
            check_plain_way(full, plain, drawn)
            task.render(*drawn)
            continue
        times.setdefault("sample", []).append(took)
        for name, way in {"full": full, "task": task, "plain": plain}.items():
            if name != "plain" or number % 5 == 0:
                times.setdefault(name, []).append(timed(lambda way=way, drawn=drawn: way.render(*drawn))[0])
        rounds_drawn.append(drawn)
    by_width = time_by_width(task, *map(np.concatenate, zip(*rounds_drawn, strict=True)))
    return {name: median(values) for name, values in (times | by_width).items()}


def time_by_width(
    examples: PuzzleDataset, puzzles: np.ndarray, pairs: np.ndarray, shifts: np.ndarray
) -> dict[str, list[float]]:
    """Seconds a batch, some times, for batches that hold canvases of one width only."""
    widths, times = examples.widths(puzzles), {}
    for width in np.unique(widths):
        chosen = np.resize(np.flatnonzero(widths == width), SIZE)
        drawn = puzzles[chosen], pairs[chosen], shifts[chosen]
        times[str(width)] = [timed(lambda drawn=drawn: examples.render(*drawn))[0] for _ in range(10)]
    return times


def describe(puzzles: int, start: dict[str, float], times: dict[str, float], command: str) -> str:
    """The result file's text."""
    made = versions()
    names = {
        "sample": "sample (either canvas)",
        "full": "render and collate, full canvas",
        "task": "render and collate, task canvas, tasks mixed as in training",
        "plain": "the plain way, full canvas",
    }
    by_width = ", ".join(f"{width}: {1e3 * seconds:.1f}" for width, seconds in times.items() if width.isdecimal())
    lines = [
        f"# Batches of {SIZE}: `{command}`",
        "",
        f"A set of {puzzles} puzzles, from its folder to the first batch, after imports and compilation:",
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:.3f} |" for name, seconds in start.items()),
        f"| together | {sum(start.values()):.3f} |",
        "",
        f"| every batch of {SIZE}, each example shifted | ms | examples/s |",
        "|---|---|---|",
        *(f"| {title} | {1e3 * times[name]:.1f} | {SIZE / times[name]:.0f} |" for name, title in names.items()),
        "",
        "A batch of mixed tasks is nearly always as wide as the whole board, so it takes as long to make. Batches of "
        f"one width, as in prediction, in cells and ms: {by_width}.",
        "",
        f"Rendering the full canvas is {times['plain'] / times['full']:.0f} times as fast as the plain way.",
        "",
        f"{processor()}, {made['cores']} cores, 1 thread. Commit {made['commit']}, numpy {np.__version__}, "
        f"torch {made['torch']}, Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def main(
    augmentations: int = 1000,
    rounds: int = 30,
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
) -> None:
    """Build a set, time the way to its first batch, then sampling and rendering beside the plain way."""
    command = f"python -m benchmarks.bench_batches --augmentations {augmentations} --rounds {rounds}"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "puzzles"
        write_set(folder, augmentations)
        puzzle_set = open_puzzle_set(folder)
        times = time_batches(puzzle_set, rounds)
        text = describe(len(puzzle_set), time_start(folder), times, command)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
