"""What building a puzzle set costs, beside the plain way to do it.

    python -m benchmarks.bench_build [--score SOURCE] [--train SOURCE]... [--workers 2] [--sample 12] [--out FILE]
    python -m benchmarks.bench_build --case one-task       a million augmentations of one task
    python -m benchmarks.bench_build --case many-tasks     ten augmentations of 100,000 made-up tasks

Each build runs in a process of its own, after a small one that imports and compiles everything. The plain way is what
published builders do: draw an augmentation, transform every grid with NumPy, keep the puzzle if the SHA-256 of its
sorted pairs is new, up to five tries for each one asked for. It is timed on a sample of the same tasks in the same run,
so that the ratio holds on any machine. Reads /proc: Linux only.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer
from joblib.externals.loky import get_reusable_executor

from augment import Grid, Pair, Selection, SourcedTasks, Task, count_distinct, open_puzzle_set, write_puzzle_set
from pipeline.config.run_config import PuzzleSettings
from pipeline.data.build import gather, make_puzzle_set
from pipeline.runtime.provenance import processor, versions

POLL_SECONDS = 0.03
TRIES_PER_PUZZLE = 5
BOARD_SIDE = 30
PLAIN_AUGMENTATIONS = 100

Load = Callable[[], list[SourcedTasks]]
Case = Literal["sources", "one-task", "many-tasks"]


class Build(NamedTuple):
    """What one build cost."""

    augmentations: int
    puzzles: int
    tries: int
    """How many the plain way would make: one for each puzzle, all of them for a task that has fewer than asked for."""
    loading: float
    drawing: float
    writing: float
    opening: float
    cpu: float
    """Seconds, user and system, of all processes, without opening."""
    memory: int
    """Largest sum over all processes of their share of memory (PSS) in bytes, as polled."""
    size: int
    """Bytes on disk."""

    @property
    def wall(self) -> float:
        """Seconds from the sources to the finished folder."""
        return self.loading + self.drawing + self.writing


def load_named(scored: list[str], train: list[str], selection: Selection = Selection()) -> list[SourcedTasks]:  # noqa: B008
    return gather(scored, selection, train)


def load_largest() -> list[SourcedTasks]:
    """The training task with the most different puzzles."""
    source = gather([], Selection(), ["arc-agi-1/training"])[0]
    largest = max(source.tasks, key=lambda task: count_distinct(task.demonstrations + task.tests))
    return [SourcedTasks("one task", "train", [largest])]


def make_tasks(count: int, seed: int = 0) -> list[SourcedTasks]:
    """Random tasks of four pairs with sides up to 12, each with its own colours."""
    rng = np.random.default_rng(seed)

    def grid(palette: np.ndarray) -> Grid:
        return rng.choice(palette, size=rng.integers(1, 13, size=2))

    def task(number: int) -> Task:
        palette = rng.permutation(10).astype(np.uint8)[: rng.integers(2, 11)]
        pairs = tuple(Pair(grid(palette), grid(palette)) for _ in range(4))
        return Task(f"task{number:06}", pairs[:3], pairs[3:])

    return [SourcedTasks("made up", "train", [task(number) for number in range(count)])]


def build_once(load: Load, augmentations: int, workers: int, folder: Path) -> tuple[list[int], list[float]]:
    """Build into the folder as the `build` command does; each task's number of puzzles, the clock after each stage."""
    clock = [time.perf_counter()]
    sources = load()
    clock.append(time.perf_counter())
    # The training part holds one task of the evaluation part: the published set has both.
    settings = PuzzleSettings(augmentations=augmentations, workers=workers, on_leak="allow")
    puzzle_set = make_puzzle_set(sources, settings, seed=0)
    clock.append(time.perf_counter())
    write_puzzle_set(puzzle_set, folder)
    clock.append(time.perf_counter())
    return np.diff(puzzle_set.starts).tolist(), clock


def build_when_told(load: Load, augmentations: int, workers: int, folder: Path, parent: Connection) -> None:
    """The child's side of `measure`: warm up, wait, build, wait, open."""
    small = partial(load_named, ["arc-agi-1/training"], [], Selection(limit=100))
    build_once(small, 10, workers, folder / "warm")
    open_puzzle_set(folder / "warm")
    parent.send("warm")
    parent.recv()
    parent.send(build_once(load, augmentations, workers, folder / "set"))
    parent.recv()
    start = time.perf_counter()
    open_puzzle_set(folder / "set")
    parent.send(time.perf_counter() - start)
    # A process started by multiprocessing waits at its end for joblib's workers, which wait for work.
    get_reusable_executor().shutdown()


def measure(load: Load, augmentations: int, workers: int) -> Build:
    """Run one build in a fresh process and watch it."""
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = (load, augmentations, workers, folder, there)
        child = multiprocessing.get_context("spawn").Process(target=build_when_told, args=arguments)
        child.start()
        there.close()
        here.recv()
        cpu, memory = cpu_seconds(family(child.pid)), 0
        here.send("build")
        while not here.poll(POLL_SECONDS):
            memory = max(memory, memory_bytes(family(child.pid)))
        counts, clock = here.recv()
        cpu = cpu_seconds(family(child.pid)) - cpu
        size = sum(file.stat().st_size for file in (folder / "set").iterdir())
        here.send("open")
        opening = here.recv()
        child.join()
    loading, drawing, writing = (after - before for before, after in pairwise(clock))
    tries = sum(count - 1 if count > augmentations else TRIES_PER_PUZZLE * augmentations for count in counts)
    return Build(augmentations, sum(counts), tries, loading, drawing, writing, opening, cpu, memory, size)


def family(pid: int | None) -> list[int]:
    """This process and all that descend from it."""
    parents = {int(path.name): _stat(path) for path in Path("/proc").iterdir() if path.name.isdecimal()}
    members = [pid] if pid else []
    for member in members:
        members += [child for child, stat in parents.items() if stat and int(stat[1]) == member]
    return members


def _stat(process: Path) -> list[str]:
    """What /proc says of a process, from its state on; nothing where it has ended."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(members: list[int]) -> float:
    """User and system time of these processes and of their children that have ended."""
    stats = [_stat(Path("/proc") / str(member)) for member in members]
    return sum(int(ticks) for stat in stats for ticks in stat[11:15]) / os.sysconf("SC_CLK_TCK")


def memory_bytes(members: list[int]) -> int:
    """Sum of the processes' memory, what several share counted once (PSS)."""
    total = 0
    for member in members:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


class Plain(NamedTuple):
    """What the plain way cost on a sample: CPU seconds of all tries, and of encoding the pairs of the puzzles kept."""

    tasks: int
    tries: int
    puzzles: int
    drawing: float
    encoding: float


def measure_plain(sources: list[SourcedTasks], sample: int) -> Plain:
    """Time the plain way on so many tasks, evenly spaced in the order of the sources."""
    tasks = [task.hidden() if source.role == "scored" else task for source in sources for task in source.tasks]
    chosen = [tasks[number] for number in np.linspace(0, len(tasks) - 1, min(sample, len(tasks))).astype(int)]
    rng, tries, puzzles, drawing, encoding = np.random.default_rng(0), 0, 0, 0.0, 0.0
    for task in chosen:
        start = time.process_time()
        group, tried = draw_plainly(task, PLAIN_AUGMENTATIONS, rng)
        drawn = time.process_time()
        np.stack([encode_plainly(grid, rng) for puzzle in group for pair in puzzle for grid in pair])
        tries, puzzles, drawing = tries + tried, puzzles + len(group), drawing + drawn - start
        encoding += time.process_time() - drawn
    return Plain(len(chosen), tries, puzzles, drawing, encoding)


PlainPuzzle = list[list[Grid]]
"""Per pair its grids: the input and, unless it is hidden, the output."""


def draw_plainly(task: Task, count: int, rng: np.random.Generator) -> tuple[list[PlainPuzzle], int]:
    """The task and up to `count` augmentations of it whose hashes differ, and how many were tried."""
    group, tries = [[list(pair.grids()) for pair in task.demonstrations + task.tests]], 0
    hashes = {hash_plainly(group[0])}
    while len(group) <= count and tries < TRIES_PER_PUZZLE * count:
        tries += 1
        transform, colours = rng.integers(8), np.concatenate([[0], rng.permutation(np.arange(1, 10))]).astype(np.uint8)
        puzzle = [[turn_plainly(colours[grid], transform) for grid in pair] for pair in group[0]]
        digest = hash_plainly(puzzle)
        if digest not in hashes:
            hashes.add(digest)
            group.append(puzzle)
    return group, tries


def turn_plainly(grid: Grid, transform: np.int64) -> Grid:
    turned = np.rot90(grid, int(transform) % 4)
    return np.fliplr(turned) if transform >= 4 else turned


def hash_plainly(puzzle: PlainPuzzle) -> str:
    pairs = ["|".join(sha256(bytes(grid.shape) + grid.tobytes()).hexdigest() for grid in pair) for pair in puzzle]
    return sha256("|".join(sorted(pairs)).encode()).hexdigest()


def encode_plainly(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """The 900 tokens of a grid somewhere on the board, end marks included."""
    height, width = grid.shape
    top, left = rng.integers(BOARD_SIDE - height + 1), rng.integers(BOARD_SIDE - width + 1)
    bottom, right = top + height, left + width
    board = np.pad(grid + np.uint8(2), ((top, BOARD_SIDE - bottom), (left, BOARD_SIDE - right)))
    if bottom < BOARD_SIDE:
        board[bottom, left:right] = 1
    if right < BOARD_SIDE:
        board[top:bottom, right] = 1
    return board.ravel()


def describe(builds: list[Build], plain: Plain | None, command: str) -> str:
    """The result file's text."""
    made = versions()
    libraries = ", ".join(f"{name} {made[name]}" for name in ("numpy", "numba", "joblib", "pyarrow"))
    lines = [
        f"# Building a puzzle set: `{command}`",
        "",
        "| augmentations | puzzles | wall | load | draw | write | CPU | peak memory | on disk | open | growth |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(describe_build(one, before) for one, before in zip(builds, [None, *builds], strict=False)),
        "",
        "Wall is load + draw + write, after imports and compilation. CPU is user and system time of all processes. "
        "Memory is the largest sum of all processes' PSS. Growth, over the row above: puzzles, wall, bytes.",
        *([] if plain is None else ["", describe_plain(plain, builds[-1])]),
        "",
        f"{processor()}, {made['cores']} cores, {time.strftime('%Y-%m-%d')}. Commit {made['commit']}, "
        f"Python {made['python']}, {libraries}.",
    ]
    return "\n".join(lines) + "\n"


def describe_build(one: Build, before: Build | None) -> str:
    """A row of the table."""
    steps = " | ".join(f"{step:.2f} s" for step in (one.wall, one.loading, one.drawing, one.writing, one.cpu))
    growth = [getattr(one, name) / getattr(before, name) for name in ("puzzles", "wall", "size")] if before else []
    return (
        f"| {one.augmentations:,} | {one.puzzles:,} | {steps} | {one.memory / 2**20:.0f} MiB "
        f"| {one.size / 1e6:.2f} MB | {one.opening:.2f} s | {', '.join(f'x{ratio:.1f}' for ratio in growth)} |"
    )


def describe_plain(plain: Plain, ours: Build) -> str:
    """The plain way scaled to the tries and puzzles of our last build, and the ratios."""
    each, encoded = plain.drawing / plain.tries, plain.encoding / plain.puzzles
    drawing, encoding = each * ours.tries, encoded * ours.puzzles
    return (
        f"The plain way, on {plain.tasks} tasks with {PLAIN_AUGMENTATIONS} augmentations each: {1e3 * each:.2f} ms of "
        f"CPU a try, {1e3 * encoded:.2f} ms to encode a puzzle's pairs. Scaled to the {ours.tries:,} tries that "
        f"{ours.puzzles:,} puzzles take at least ({TRIES_PER_PUZZLE} for each one asked for where a task has fewer) "
        f"that is {drawing:,.0f} s, **{drawing / ours.cpu:,.0f} times** our {ours.cpu:.2f} CPU-seconds. Encoding would "
        f"add {encoding:,.0f} s, {(drawing + encoding) / ours.cpu:,.0f} times together; ours encodes when a batch is "
        "made. Ours includes loading, checks, canvases and writing; the plain figure includes none of them."
    )


def main(
    scored: Annotated[list[str], typer.Option("--score", metavar="SOURCE")] = ["arc-agi-1/evaluation"],  # noqa: B006
    train: Annotated[list[str], typer.Option(metavar="SOURCE")] = ["arc-agi-1/training", "concept"],  # noqa: B006
    augmentations: Annotated[list[int], typer.Option(help="A row for each")] = [10, 100, 1000],  # noqa: B006
    workers: int = 1,
    sample: Annotated[int, typer.Option(help="Tasks to time the plain way on")] = 12,
    case: Case = "sources",
    tasks: Annotated[int, typer.Option(help="Made-up tasks of the case many-tasks")] = 100_000,
    out: Annotated[Path | None, typer.Option(help="Write the result here too")] = None,
) -> None:
    """Time builds and the plain way, and print the table."""
    load = {
        "sources": partial(load_named, scored, train),
        "one-task": load_largest,
        "many-tasks": partial(make_tasks, tasks),
    }[case]
    counts = {"sources": augmentations, "one-task": [1_000_000], "many-tasks": [10]}[case]
    builds = [measure(load, count, workers) for count in counts]
    plain = measure_plain(load(), sample) if case == "sources" else None
    words = " ".join(sys.argv[1:])
    text = describe(builds, plain, f"python -m benchmarks.bench_build {words}".strip())
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
