"""A training step on one canvas, eager or compiled: how long its parts take, and the memory it needs.

In comes a `Work`: a config, its puzzle set, and the examples of its first batch that fill the slots. Out come seconds
and bytes of each step. `benchmarks.bench_train` compares several such trials.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from augment import PuzzleSet
from pipeline.config.run_config import RunConfig, override
from pipeline.data.build import gather, make_puzzle_set
from pipeline.runtime.console import Console
from pipeline.training.setup import make_learner
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model.config import Canvas
from solver.training.learner import Learner

PARTS: tuple[str, ...] = ("rendering", "forward", "backward", "optimizers", "ID table", "rest")


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

    STATUS = Path("/proc/self/status")
    FORGET_PEAK = Path("/proc/self/clear_refs")

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.posterior = self.STATUS.exists()

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
        self.canvas = canvas
        self.compiled = compiled
        self.work = work
        self.device = device
        self.memory = BatchSize(device)
        self.clock = Clock(device)
        before = self.memory.used()
        config = override(work.config, {"model.canvas": canvas, "train.compile": compiled})
        self.examples = PuzzleDataset(work.puzzle_set, canvas, ids=config.puzzles.ids, palette=config.model.palette)
        self.positions_B = config.model.id_slots + cells_in_use(work.batch(self.examples))
        learner = make_learner(config, work.keys, device, Console(), None)
        self.precision = learner.model.precision
        self.varlen = learner.model.varlen
        self._wrap(learner)
        self.learner: Learner | None = learner
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
        before = self.memory.used()
        start = time.perf_counter()
        batch = self.clock.time("rendering", lambda: self.work.batch(self.examples).to(self.device))
        assert self.learner is not None, "the trial has ended"
        self.learner.step(batch)
        wait_for(self.device)
        seconds = time.perf_counter() - start
        parts = self.clock.lap()
        parts["rest"] = seconds - sum(parts.values())
        self.most_positions: int | None = self.learner.numbers()["most_positions"]
        return {"step": seconds, "bytes": self.memory.peak() - before} | parts

    def end(self) -> None:
        """Free the learner's memory for the next trial; what was measured stays."""
        self.learner = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

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
