"""How fast training is, on the full and on the task canvas, as a share of what the machine's matrix products reach.

    python -m benchmarks.bench_train [--slots 16] [--rounds 5] [--threads 2] [--compiled] [--profile] [--out FILE]

Runs on CUDA where there is one, else on the CPU. The default recipe is `arc1`: the published size, on batches of the
published composition; `--recipe` and `--set` time another. Canvases, eager and compiled steps and a large matrix
product are timed in turn in every round, so that their ratios hold where the speed drifts; figures are medians.
"""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, get_args

import numpy as np
import torch
import typer
from torch.profiler import ProfilerActivity, profile

from augment import PuzzleSet
from pipeline.checkpoints.load_model import choose_precision
from pipeline.config.run_config import RunConfig, override, parse_assignments
from pipeline.data.build import gather, make_puzzle_set
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.runtime.provenance import processor, versions
from pipeline.training.flop import step_work
from pipeline.training.setup import make_learner
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model.config import Canvas
from solver.training.learner import Learner

CPU_SLOTS, CPU_BOARDS = 16, 4
"""On the CPU: slots that stand for a batch, and full boards that run at once unless train.micro_batch says it."""

PARTS: tuple[str, ...] = ("rendering", "forward", "backward", "optimizers", "ID table", "rest")
PRODUCTS = {"cpu": (2048, 5), "cuda": (8192, 50)}
"""Side of the matrices that are multiplied, and how often in a row."""


class Clock:
    """Seconds that the parts of a step take. On CUDA by events in its stream, so that nothing waits for the clock."""

    def __init__(self, device: torch.device):
        self.device = device
        self.marks: list[tuple[str, Any, Any]] = []

    def wrap(self, owner: object, name: str, part: str) -> None:
        """From now on count the calls of a method of `owner` as this part."""
        work = getattr(owner, name)
        setattr(owner, name, lambda *arguments, **options: self.time(part, lambda: work(*arguments, **options)))

    def time(self, part: str, work: Callable[[], Any]) -> Any:
        """Do some work and count it as this part."""
        start = self._now()
        result = work()
        self.marks.append((part, start, self._now()))
        return result

    def lap(self) -> dict[str, float]:
        """Seconds of each part since the last lap; the device must have done all its work."""
        seconds = dict.fromkeys(PARTS[:-1], 0.0)
        for part, start, end in self.marks:
            seconds[part] += end - start if self.device.type == "cpu" else start.elapsed_time(end) / 1e3
        self.marks.clear()
        return seconds

    def _now(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class BatchSize:
    """Bytes in use and at most in use: on CUDA by tensors, on the CPU by the process (Linux only, else 0)."""

    STATUS, FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, device: torch.device):
        self.cuda, self.posterior = device.type == "cuda", self.STATUS.exists()

    def used(self) -> int:
        """Now."""
        return torch.cuda.memory_allocated() if self.cuda else self._read("VmRSS")

    def peak(self) -> int:
        """At most since the last `reset_peak`."""
        return torch.cuda.max_memory_allocated() if self.cuda else self._read("VmHWM")

    def reset_peak(self) -> None:
        """Begin again."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif self.posterior:
            self.FORGET_PEAK.write_text("5")

    def _read(self, name: str) -> int:
        lines = self.STATUS.read_text().splitlines() if self.posterior else []
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def choose_slots(lengths_B: np.ndarray, count: int) -> np.ndarray:
    """`count` examples that stand for a batch: sorted by length, the middle one of each of `count` equal parts."""
    middles = (np.arange(count) + 0.5) * len(lengths_B) / count
    return np.sort(np.argsort(lengths_B, kind="stable")[middles.astype(np.int64)])


def cells_in_use(batch: Batch) -> np.ndarray:
    """Cells (B,) of each example that are not padding."""
    return (batch.cells_BS >= 0).sum(1).cpu().numpy()


@dataclass(frozen=True)
class Work:
    """What is trained on: a config, its puzzle set, and which examples of its first batch fill the slots."""

    config: RunConfig
    puzzle_set: PuzzleSet
    keys: list[str]
    slots: np.ndarray

    def batch(self, examples: PuzzleDataset) -> Batch:
        """Draw and render the first batch of the run, and take the slots' examples."""
        settings = self.config.train
        sampler = examples.sampler(self.config.seed, settings.source_weights)
        batch = examples.training_batch(sampler, settings.batch_size, settings.shift)
        return batch if len(self.slots) == len(batch) else batch.each(lambda tensor: tensor[self.slots])


def prepare_work(config: RunConfig, slots: int | None) -> Work:
    """Build the config's puzzle set and choose the slots, all of the batch by default."""
    sources = gather([config.source], config.selection.selection(), list(config.train_sources))
    puzzle_set = make_puzzle_set(sources, config.puzzles, config.seed, config.model.board_side)
    size = config.train.batch_size
    examples = PuzzleDataset(puzzle_set, "task", ids=config.puzzles.ids)
    whole = Work(config, puzzle_set, examples.row_keys, np.arange(size))
    lengths_B = cells_in_use(whole.batch(examples))
    return Work(config, puzzle_set, whole.keys, choose_slots(lengths_B, min(slots or size, size)))


class Trial:
    """Training steps on one canvas, eager or compiled. Every step is offered the same examples, rendered again."""

    def __init__(self, work: Work, canvas: Canvas, compiled: bool, device: torch.device):
        self.canvas, self.compiled, self.work, self.device = canvas, compiled, work, device
        self.memory, self.clock = BatchSize(device), Clock(device)
        before = self.memory.used()
        config = override(work.config, {"model.canvas": canvas, "train.compile": compiled})
        self.examples = PuzzleDataset(work.puzzle_set, canvas, ids=config.puzzles.ids, palette=config.model.palette)
        self.positions_B = config.model.id_slots + cells_in_use(work.batch(self.examples))
        self.learner = make_learner(config, work.keys, device, Console(), None)
        self._wrap(self.learner)
        for _ in range(1 if device.type == "cpu" else 2):  # compiles, and finds what fits into memory
            self.step()
        self.held = self.memory.used() - before
        self.laps: list[dict[str, float]] = []

    def _wrap(self, learner: Learner) -> None:
        self.clock.wrap(learner.model, "forward", "forward")
        self.clock.wrap(learner, "_backward", "backward")
        self.clock.wrap(learner, "_update_ids", "ID table")
        for optimizer in learner.optimizers:
            self.clock.wrap(optimizer, "step", "optimizers")
        if learner.average is not None:
            self.clock.wrap(learner.average, "update", "optimizers")

    def run(self) -> None:
        """One step that counts."""
        self.laps.append(self.step())

    def step(self) -> dict[str, float]:
        """Seconds of a step and of its parts, and the bytes it takes at most above what was held before."""
        self.memory.reset_peak()
        before, start = self.memory.used(), time.perf_counter()
        batch = self.clock.time("rendering", lambda: self.work.batch(self.examples).to(self.device))
        self.learner.step(batch)
        wait_for(self.device)
        seconds, parts = time.perf_counter() - start, self.clock.lap()
        parts["rest"] = seconds - sum(parts.values())
        return {"step": seconds, "bytes": self.memory.peak() - before} | parts

    def median(self, name: str) -> float:
        """The median of one figure over the rounds."""
        return median(lap[name] for lap in self.laps)

    @property
    def name(self) -> str:
        """How the tables call it."""
        return f"{self.canvas}, {'compiled' if self.compiled else 'eager'}"


def wait_for(device: torch.device) -> None:
    """Until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    memory, most = trial.held + trial.median("bytes"), trial.learner.most_positions
    return (
        f"| {trial.name} | {1e3 * seconds:,.0f} | {slots / seconds:,.3g} | {work / slots / 1e9:,.4g} "
        f"| {work / seconds / 1e9:,.4g} | {work / seconds / rate:.0%} | {memory / 2**20:,.0f} MiB "
        f"| {'one' if most is None else f'of {most:,} positions'} |"
    )


def describe_ratio(trials: list[Trial], compiled: bool) -> str:
    """How much faster the task canvas is, and how much it could be."""
    full, task = (
        next(trial for trial in trials if (trial.canvas, trial.compiled) == (canvas, compiled))
        for canvas in ("full", "task")
    )
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
    model, precision = config.model, str(trial.learner.model.precision).removeprefix("torch.")
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
        f"Attention: {'varlen' if trial.learner.model.varlen else 'padded groups'}. Rounds: {len(trial.laps)}. "
        f"{processor()}, {made['cores']} cores, {name}. Commit {made['commit']}, torch {made['torch']}, "
        f"Python {made['python']}.",
    ]


def main(
    recipe_name: Annotated[str, typer.Option("--recipe")] = "arc1",
    slots: Annotated[
        int | None, typer.Option(help="Slots of the batch that are run  [default: all on CUDA, 16 on CPU]", min=1)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    threads: int = 2,
    compiled: Annotated[bool, typer.Option("--compiled", help="Compiled steps too, as always on CUDA")] = False,
    profiled: Annotated[bool, typer.Option("--profile", help="Add what takes longest in a step")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Time training steps on both canvases beside a large matrix product."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    config = override(recipe(recipe_name), parse_assignments(assignments or []))
    if not cuda and config.train.micro_batch is None:
        config = override(config, {"train.micro_batch": CPU_BOARDS})
    work = prepare_work(config, slots or (None if cuda else CPU_SLOTS))
    kinds = (False, True) if cuda or compiled else (False,)
    trials = [Trial(work, canvas, kind, device) for kind in kinds for canvas in get_args(Canvas)]
    rate = time_in_turn(trials, make_product(device, choose_precision(config.train.precision, device)), rounds)
    text = describe(trials, rate, f"python -m benchmarks.bench_train {shlex.join(sys.argv[1:])}".strip())
    text += "".join(f"\n{profile_step(trial)}" for trial in trials if profiled)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
