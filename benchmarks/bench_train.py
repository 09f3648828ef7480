"""How fast training is, on the full and on the task canvas, as a share of what the machine's matrix products reach.

    python -m benchmarks.bench_train [--slots 16] [--rounds 5] [--only task,eager] [--compiled] [--profile] [--out FILE]

Runs on CUDA where there is one, else on the CPU. The default recipe is `arc1`: the published size, on batches of the
published composition; `--recipe` and `--set` time another. Figures are medians. On the CPU, canvases, eager and
compiled steps and a large matrix product are timed in turn in every round, so that their ratios hold where the speed
drifts. On CUDA, and with `--only`, one learner at a time is in memory, timed in turn with the matrix product.
"""

import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Annotated, get_args

import numpy as np
import torch
import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.train_trial import PARTS, Trial, prepare_work, wait_for
from pipeline.checkpoints.load_model import choose_precision
from pipeline.config.run_config import override, parse_assignments
from pipeline.recipes.registry import recipe
from pipeline.runtime.provenance import processor, versions
from pipeline.training.flop import step_work
from solver.model.config import Canvas

WAYS = {"eager": False, "compiled": True}
Kind = tuple[Canvas, bool]
"""A canvas, and whether the blocks are compiled."""
CPU_SLOTS, CPU_BOARDS = 16, 4
"""On the CPU: slots that stand for a batch, and full boards that run at once unless train.micro_batch says it."""

PRODUCTS = {"cpu": (2048, 5), "cuda": (8192, 50)}
"""Side of the matrices that are multiplied, and how often in a row."""


def make_product(device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """A function that multiplies large matrices and says at what rate, in operations a second."""
    side, times = PRODUCTS[device.type]
    square = torch.randn(side, side, device=device).to(dtype)

    def run() -> float:
        wait_for(device)
        start = time.perf_counter()
        for _ in range(times):
            torch.mm(square, square)
        wait_for(device)
        return times * 2 * side**3 / (time.perf_counter() - start)

    run()
    return run


def time_in_turn(trials: list[Trial], product: Callable[[], float], rounds: int) -> float:
    """Run every trial and the matrix product once a round; the product's median rate."""
    rates = []
    for _ in range(rounds):
        rates.append(product())
        for trial in trials:
            trial.run()
    return median(rates)


def choose_kinds(only: str | None, compiled: bool) -> list[Kind]:
    """Return what to time, by canvas; names that `only` leaves out do not restrict.

    Args:
        only: names of canvases and ways, separated by commas.
        compiled: compiled steps too, unless `only` names the ways.

    Raises:
        BadParameter: a name is neither a canvas nor a way.
    """
    names = only.split(",") if only else []
    known = [*get_args(Canvas), *WAYS]
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(known)}: name some of these", param_hint="--only"
        )
    canvases = [canvas for canvas in get_args(Canvas) if canvas in names] or list(get_args(Canvas))
    ways = [WAYS[name] for name in WAYS if name in names] or ([False, True] if compiled else [False])
    return [(canvas, way) for way in ways for canvas in canvases]


def profile_step(trial: Trial) -> str:
    """What takes longest in a step, by the profiler."""
    cuda = trial.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiled:
        trial.step()
    order = f"self_{trial.device.type}_time_total"
    table = profiled.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=50)
    return f"## Profile: {trial.name}\n\n```\n{table}\n```\n"


def describe(trials: list[Trial], rate: float, command: str) -> str:
    """The result file's text."""
    lines = [
        f"# A training step: `{command}`",
        "",
        *describe_batch(trials[0]),
        "",
        "| canvas, blocks | ms a step | examples/s | GFLOP/example | GFLOP/s | of matrix product | memory | chunks |",
        "|---|---|---|---|---|---|---|---|",
        *(describe_trial(trial, rate) for trial in trials),
        "",
        *(describe_ratio(trials, compiled) for compiled in sorted({trial.compiled for trial in trials})),
        "",
        f"| ms of a step | {' | '.join(PARTS)} |",
        "|---|---|---|---|---|---|---|",
        *map(describe_parts, trials),
        "",
        *describe_terms(trials[0], rate),
    ]
    return "\n".join(lines) + "\n"


def describe_batch(trial: Trial) -> list[str]:
    """What was trained on, and on what."""
    config, slots = trial.work.config, len(trial.work.slots)
    model, size = config.model, config.train.batch_size
    some = (
        f"{slots} slots stand for a batch of {size}: its examples sorted by the cells of their canvas, the middle one "
        f"of each of {slots} equal parts; the same on both canvases."
    )
    cpu = ["", "**No GPU was found: these are the CPU's figures, and those of a GPU are missing.**"]
    return [
        f"Recipe `{config.recipe}`: hidden {model.hidden}, {model.heads} heads, {model.layers} layers, "
        f"H={model.h_cycles}, L={model.l_cycles}, {model.id_slots} ID slots, board of "
        f"{model.board_side}x{model.board_side}, {len(trial.work.puzzle_set):,} puzzles. "
        + (f"{size} slots." if slots == size else some),
        *(cpu if trial.device.type == "cpu" else []),
    ]


def describe_trial(trial: Trial, rate: float) -> str:
    """A line of the main table."""
    seconds, slots = trial.median("step"), len(trial.work.slots)
    work = step_work(trial.work.config.model, trial.positions_B)[1]
    memory = trial.held + trial.median("bytes")
    most = trial.most_positions
    return (
        f"| {trial.name} | {1e3 * seconds:,.0f} | {slots / seconds:,.3g} | {work / slots / 1e9:,.4g} "
        f"| {work / seconds / 1e9:,.4g} | {work / seconds / rate:.0%} | {memory / 2**20:,.0f} MiB "
        f"| {'one' if most is None else f'of {most:,} positions'} |"
    )


def describe_ratio(trials: list[Trial], compiled: bool) -> str:
    """How much faster the task canvas is, and how much it could be; nothing if only one canvas was timed."""
    by_canvas = {trial.canvas: trial for trial in trials if trial.compiled == compiled}
    if len(by_canvas) < 2:
        return ""
    full = by_canvas["full"]
    task = by_canvas["task"]
    works = [step_work(trial.work.config.model, trial.positions_B)[1] for trial in (full, task)]
    return (
        f"{'Compiled' if compiled else 'Eager'}, the task canvas makes "
        f"**{full.median('step') / task.median('step'):.2f} times** the examples a second; by arithmetic it could be "
        f"{works[0] / works[1]:.2f} times."
    )


def describe_parts(trial: Trial) -> str:
    """A line of the table of parts."""
    return f"| {trial.name} | {' | '.join(f'{1e3 * trial.median(part):,.1f}' for part in PARTS)} |"


def describe_terms(trial: Trial, rate: float) -> list[str]:
    """What the figures mean, and what made them."""
    config, made, device = trial.work.config, versions(), trial.device
    model = config.model
    precision = str(trial.precision).removeprefix("torch.")
    board = np.array([model.id_slots + model.cells])
    forward, step = (work / 1e9 for work in step_work(model, board))
    side, _ = PRODUCTS[device.type]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return [
        f"Matrix product of {side}: {rate / 1e9:,.0f} GFLOP/s in {precision}. Operations are those of matrix products "
        f"and attention for the positions in use; an example on the whole board ({board[0]} positions) takes "
        f"{forward:.4g} GFLOP forward and {step:.4g} a training step. Rendering draws and renders all "
        f"{config.train.batch_size} examples. The optimizers' part holds the moving average, the rest losses, "
        "refilling of slots and sums of gradients. Memory is the peak with weights, optimizers and slots; of the ID "
        "table the CPU counts the rows in use only.",
        "",
        f"Attention: {'varlen' if trial.varlen else 'padded groups'}. Rounds: {len(trial.laps)}. "
        f"{processor()}, {made['cores']} cores, {name}. Commit {made['commit']}, torch {made['torch']}, "
        f"Python {made['python']}.",
    ]


def time_groups(
    groups: Iterable[list[Trial]], product: Callable[[], float], rounds: int, finish: Callable[[Trial], str]
) -> tuple[list[Trial], float, str]:
    """Time the trials of each group in turn, and end them before the next group is made.

    Returns:
        All trials, the median rate of the product, and the joined texts of `finish`, called before a trial ends.
    """
    trials = []
    rates = []
    texts = []
    for group in groups:
        rates.append(time_in_turn(group, product, rounds))
        for trial in group:
            texts.append(finish(trial))
            trial.end()
        trials += group
    return trials, median(rates), "".join(texts)


def main(
    recipe_name: Annotated[str, typer.Option("--recipe")] = "arc1",
    slots: Annotated[
        int | None, typer.Option(help="Slots of the batch that are run  [default: all on CUDA, 16 on CPU]", min=1)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    threads: int = 2,
    compiled: Annotated[bool, typer.Option("--compiled", help="Compiled steps too, as always on CUDA")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="full,task,eager,compiled", help="Time only these canvases and ways")
    ] = None,
    profiled: Annotated[bool, typer.Option("--profile", help="Add what takes longest in a step")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Time training steps on both canvases beside a large matrix product."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    kinds = choose_kinds(only, cuda or compiled)
    config = override(recipe(recipe_name), parse_assignments(assignments or []))
    if not cuda and config.train.micro_batch is None:
        config = override(config, {"train.micro_batch": CPU_BOARDS})
    work = prepare_work(config, slots or (None if cuda else CPU_SLOTS))
    product = make_product(device, choose_precision(config.train.precision, device))
    made = (Trial(work, canvas, kind, device) for canvas, kind in kinds)
    finish = (lambda trial: f"\n{profile_step(trial)}") if profiled else (lambda _: "")
    # A list has all learners in memory at once, to time them in turn; an iterator has one.
    groups = ([trial] for trial in made) if cuda or only else [list(made)]
    trials, rate, profiles = time_groups(groups, product, rounds, finish)
    text = describe(trials, rate, f"python -m benchmarks.bench_train {shlex.join(sys.argv[1:])}".strip()) + profiles
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
