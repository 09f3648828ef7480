"""How fast a training step is, on the task canvas and on the full board, beside the machine's matrix multiplication.

    python -m benchmarks.bench_step [--recipe cpu] [--threads 2] [--set train.batch_size=64]... [--out FILE]

Both canvases are timed in turn in one run, so that their ratio holds on a machine whose speed drifts.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from augment import build_puzzle_set
from benchmarks.bench_recipe import processor
from pipeline.config import RunConfig, override, parse_assignments
from pipeline.prepare import gather
from pipeline.recipes import recipe
from pipeline.rundir import versions
from pipeline.start import learner_config
from solver import Batch, IdTable, Learner, RecursiveModel
from solver.batches import Examples

SIZE = 2048


def make_step(config: RunConfig) -> Callable[[], object]:
    """A function that makes one training step of this config on its own tasks."""
    sources = gather([config.source], config.selection.selection(), list(config.train_sources))
    puzzle_set = build_puzzle_set(sources, config.puzzles.augmentations, config.seed, 1, config.model.board_side)
    table = IdTable(len(puzzle_set), config.model.id_length)
    learner = Learner(RecursiveModel(config.model), table, learner_config(config))
    examples = Examples(puzzle_set, config.model.canvas)
    batches: Iterator[Batch] = examples.training_batches(config.train.batch_size, config.seed, config.train.shift)
    return lambda: learner.step(next(batches))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_in_turn(config: RunConfig, rounds: int) -> dict[str, float]:
    """Median seconds of a step on the task canvas, on the full board (every fifth round), and of a matrix product."""
    square = torch.randn(SIZE, SIZE)
    works = {canvas: make_step(override(config, {"model.canvas": canvas})) for canvas in ("task", "full")}
    works["matmul"] = lambda: square @ square
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            if name != "full" or number % 5 == 0:
                times[name].append(seconds(work))
    return {name: median(values) for name, values in times.items()}


def describe(times: dict[str, float], batch: int, command: str, threads: int) -> str:
    """The result file's text."""
    made = versions()
    rows = [f"| {name} | {1e3 * times[name]:.0f} | {batch / times[name]:.0f} |" for name in ("task", "full")]
    lines = [
        f"# A training step: `{command}`",
        "",
        f"| canvas | ms per step of {batch} | examples/s |",
        "|---|---|---|",
        *rows,
        "",
        f"The task canvas is {times['full'] / times['task']:.1f} times as fast. "
        f"Matrix product of {SIZE}: {2 * SIZE**3 / times['matmul'] / 1e9:.0f} GFLOP/s in float32.",
        "",
        f"{processor()}, {made['cores']} cores, {threads} threads. Commit {made['commit']}, torch {made['torch']}, "
        f"Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def main(
    recipe_name: Annotated[str, typer.Option("--recipe")] = "cpu",
    threads: int = 2,
    rounds: int = 15,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    out: Path | None = None,
) -> None:
    """Time a recipe's step on both canvases and a large matrix product, in turn."""
    torch.set_num_threads(threads)
    config = override(recipe(recipe_name), parse_assignments(assignments or []))
    words = " ".join(f"--set {text}" for text in assignments or [])
    command = f"python -m benchmarks.bench_step --recipe {recipe_name} --threads {threads} {words}".strip()
    text = describe(time_in_turn(config, rounds), config.train.batch_size, command, threads)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
