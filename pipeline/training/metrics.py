"""Computes training metrics: means over steps, and the accuracy on held-out demonstrations, over all processes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from augment import PuzzleSet
from augment.errors import UserError
from pipeline.config.run_config import RunConfig
from pipeline.training.batch_size import BatchSize
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model.trace import Movement, relative
from solver.training.deep_supervision import last_output, predict_steps
from solver.training.learner import Learner
from solver.training.process_group import ProcessGroup
from solver.training.step_result import StepResult

HELD_OUT_BOARDS = 32
"""Batch size of the held-out accuracy, in full boards. It is computed between training steps, while their memory is
still allocated: this is enough to keep a GPU busy, and small compared with a training batch."""

Result = TypeVar("Result")


class Tally:
    """Accumulates sums over training steps. Accuracies count examples when they halt, that is, leave their slot."""

    NAMES = ("examples", "loss", "halted", "exact", "correct", "labelled", "steps")

    def __init__(self, figures: Sequence[str] = ()) -> None:
        """Start with sums of zero.

        Args:
            figures: names of further quantities that supervision steps report (ModelConfig.figures).
        """
        self._figures = figures
        self._names = (*self.NAMES, *figures)
        self._sums = torch.zeros(len(self._names), dtype=torch.float64)
        self._since = time.monotonic()

    def add(self, result: StepResult) -> None:
        """Add one step of this process's slots."""
        halted_B = result.halted_B
        loss = result.losses
        sums = (
            torch.tensor(len(halted_B)),
            loss.total,
            halted_B.sum(),
            (loss.exact_B & halted_B).sum(),
            (loss.correct_B * halted_B).sum(),
            (loss.labelled_B * halted_B).sum(),
            (result.steps_B * halted_B).sum(),
            *(loss.kl if name == "kl" else result.output.figures[name].sum() for name in self._figures),
        )
        # The sums stay on the device: reading them here would make every step wait for the GPU.
        self._sums = self._sums.to(halted_B.device) + torch.stack([value.to(loss.total) for value in sums])

    def numbers(self, processes: ProcessGroup) -> dict[str, float]:
        """Return the sums over all processes and the seconds since the start, as JSON values."""
        sums = processes.sum_(self._sums.clone()).tolist()
        return dict(zip(self._names, sums, strict=True)) | {"seconds": time.monotonic() - self._since}

    def load(self, numbers: dict[str, float], processes: ProcessGroup) -> None:
        """Continue from saved sums; the first process takes all of them, as they are summed over processes later."""
        self._since = time.monotonic() - numbers["seconds"]
        if processes.index == 0:
            self._sums = torch.tensor([numbers[name] for name in self._names], dtype=torch.float64)

    def means(self, processes: ProcessGroup) -> dict[str, float]:
        """Return the means by name.

        They are the loss per example, the accuracy of whole examples and of cells, the supervision steps until halting
        and the examples per second. To these come the means of all figures: the KL of learned noise in nats per cell,
        widths, residuals, iterations.
        """
        sums = self.numbers(processes)
        return {name: sums[name] / sums["examples"] for name in self._figures} | {
            "loss": sums["loss"] / sums["examples"],
            "exact": sums["exact"] / max(1.0, sums["halted"]),
            "cells": sums["correct"] / max(1.0, sums["labelled"]),
            "supervision_steps": sums["steps"] / max(1.0, sums["halted"]),
            "examples_per_second": sums["examples"] / sums["seconds"],
        }


def mean_movement(movement: Movement, processes: ProcessGroup) -> dict[str, list[float]]:
    """Return how far each latent moved at each of its updates within a supervision step, relative to its norm."""
    return {latent: relative(processes.sum_(squares)) for latent, squares in movement.squares.items()}


def choose_held_out(config: RunConfig, puzzle_set: PuzzleSet) -> tuple[int, ...]:
    """Choose at random the tasks (by number) with a held-out demonstration, among those with 3 or more pairs."""
    eligible = [task for task in range(len(puzzle_set.tasks)) if len(puzzle_set.training_pairs(task)) >= 3]
    number = config.train.hold_out
    if number > len(eligible):
        raise UserError(f"train.hold_out is {number}, but only {len(eligible)} tasks have 3 or more pairs", "lower it")
    rng = np.random.Generator(np.random.Philox(key=[config.seed, len(eligible)], counter=[0, 0, 0, 3]))
    return tuple(sorted(rng.permutation(eligible)[:number].tolist()))


def held_out_accuracy(learner: Learner, examples: PuzzleDataset, steps: int | None, memory: BatchSize) -> float:
    """Return the share of held-out demonstrations, un-augmented, that the averaged weights predict exactly.

    The prediction after the last supervision step counts. Batches are distributed to the processes round-robin; a
    process without a batch contributes zeros.

    Args:
        learner: the model and its ID table.
        examples: whose held-out demonstrations are predicted.
        steps: supervision steps; None for as many as in training.
        memory: chooses the batch sizes (`held_out_batches`), and keeps them for the next call.

    Raises:
        OutOfMemoryError: if a single example does not fit.
    """
    processes = learner.processes
    device = learner.table.weights_PI.device

    def count(batch: Batch, rows: np.ndarray) -> list[float]:
        return [float(is_correct(learner, batch.to(device), steps).sum()), len(rows)]

    counts = torch.zeros(2, dtype=torch.float64)
    own = slice(processes.index, None, processes.count)
    with learner.average.averaged() if learner.average else nullcontext():
        for numbers in compute_examples(examples, *examples.held_out(), memory, count, own):
            counts += torch.tensor(numbers)
    right, total = processes.sum_(counts).tolist()
    return right / total


def held_out_batches(
    config: RunConfig, device: torch.device, log: Callable[[str], None] = lambda message: None
) -> BatchSize:
    """Return what chooses the batch sizes for a config's held-out accuracy; `log` is told where memory runs out."""
    boards = config.predict.batch_size or HELD_OUT_BOARDS
    return BatchSize(config.model, boards, lambda message: log(f"predicting held-out examples: {message}"), device)


def is_correct(learner: Learner, batch: Batch, steps: int | None) -> Tensor:
    """Return which examples (B,) are right in every labelled cell after the last supervision step."""
    output = last_output(predict_steps(learner.model, learner.table, batch, steps))
    # Label 0 marks positions without a label.
    return ((output.logits_BCV.argmax(-1) == batch.labels_BS) | (batch.labels_BS == 0)).all(dim=1)


def compute_examples(
    examples: PuzzleDataset,
    puzzles: np.ndarray,
    pairs: np.ndarray,
    memory: BatchSize,
    work: Callable[[Batch, np.ndarray], Result],
    share: slice = slice(None),
) -> Iterator[Result]:
    """Yield the results of `work` on (batch, row numbers) of the given examples, batch by batch.

    Args:
        examples, puzzles, pairs: the examples.
        memory: chooses the batch sizes.
        work: computes a batch; it may run out of memory.
        share: which of the batches are computed (`BatchSize.ragged_batches`).
    """
    lengths = memory.slots + examples.canvas_sizes(puzzles).prod(axis=1)
    return memory.ragged_batches(lengths, lambda rows: work(examples.render(puzzles[rows], pairs[rows]), rows), share)


def format_metrics(metrics: dict[str, Any]) -> str:
    """Return the text beside the progress bar."""
    note = "loss {loss:.3f} exact {exact:.0%} {examples_per_second:.0f} examples/s".format(**metrics)
    return note + (f" held out {metrics['held_out_exact']:.0%}" if "held_out_exact" in metrics else "")
