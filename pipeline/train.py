"""Puzzle set in, checkpoint out: the second stage of a run.

Every step offers a batch to the learner (`solver.supervision`), which refills its halted slots and updates everything;
this module adds devices (accelerate), time, progress, metrics and checkpoints.
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from augment import PuzzleSet
from pipeline.budget import Budget, format_duration
from pipeline.checkpoint import Checkpoint, load_checkpoint, match_rows, save_checkpoint
from pipeline.config import RunConfig, TrainSettings, build_config
from pipeline.progress import Progress
from pipeline.rundir import RunFolder
from solver.batches import Batch, Examples, check_board
from solver.embedding import IdTable
from solver.model import RecursiveModel
from solver.sampling import Sampler
from solver.supervision import Learner, LearnerConfig, StepResult, last_output, predict_steps

SAME_NETWORK = (
    *("hidden", "heads", "expansion", "layers", "mixer", "id_slots", "id_length", "vocabulary"),
    *("rope_theta", "rms_epsilon"),
)
"""Model settings that must be those of the checkpoint that training starts from."""


def train(config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder, budget: Budget, reserve: float = 0.0) -> Checkpoint:
    """Train for config.train.steps steps, or until only `reserve` seconds of the budget are left.

    Returns:
        The final checkpoint, also in RUN/checkpoints/final. A run that already has one is not trained again.
    """
    if run.final_checkpoint.exists():
        run.log(f"training was already done: {run.final_checkpoint}")
        return load_checkpoint(run.final_checkpoint)
    accelerator = start_accelerator()
    torch.manual_seed(config.seed)
    check_board(puzzle_set, config.model.board_side)
    examples = Examples(puzzle_set, config.model.canvas, choose_held_out(config, puzzle_set))
    keys, start = puzzle_set.keys(), start_from(config)
    learner = make_learner(config, keys, accelerator, run, start)
    session = Session(config, keys, examples, learner, run, start)
    sampler = examples.sampler(config.seed, config.train.source_weights, keep_rest=config.train.feed == "halted")
    with Progress(run, "train", config.train.steps) as progress:
        while learner.steps < config.train.steps and budget.left(reserve) > 0:
            batch = next_batch(examples, sampler, learner, config.train)
            session.follow(learner.step(batch.to(accelerator.device)), progress)
    if learner.steps < config.train.steps:
        kept = f", {format_duration(reserve)} being kept for prediction" if reserve else ""
        run.log(f"the budget ended training at step {learner.steps} of {config.train.steps}{kept}")
    return session.finish()


def next_batch(examples: Examples, sampler: Sampler, learner: Learner, settings: TrainSettings) -> Batch:
    """What the learner is offered next: an example for each of its slots, or for the halted ones only."""
    size = learner.count_free(settings.batch_size) if settings.feed == "halted" else settings.batch_size
    return examples.training_batch(sampler, size, settings.shift)


def start_accelerator() -> Accelerator:
    """One process on a CUDA device where there is one, else on the CPU (float64 in the loss rules others out)."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if accelerator.num_processes > 1:
        raise ValueError(f"training runs in one process, but {accelerator.num_processes} were launched")
    return accelerator


def choose_held_out(config: RunConfig, puzzle_set: PuzzleSet) -> tuple[int, ...]:
    """The tasks (by number) that keep a demonstration out of training: a seeded choice of those with three or more."""
    able = [number for number in range(len(puzzle_set.tasks)) if len(puzzle_set.training_pairs(number)) >= 3]
    if config.train.hold_out > len(able):
        raise ValueError(f"train.hold_out is {config.train.hold_out}, but only {len(able)} tasks have 3 or more pairs")
    rng = np.random.Generator(np.random.Philox(key=[config.seed, len(able)], counter=[0, 0, 0, 3]))
    return tuple(sorted(rng.permutation(able)[: config.train.hold_out].tolist()))


def make_learner(
    config: RunConfig, keys: list[str], accelerator: Accelerator, run: RunFolder, start: Checkpoint | None
) -> Learner:
    """A learner from scratch, or from the checkpoint `start`: its weights, and its ID rows matched by key."""
    model, table = RecursiveModel(config.model), IdTable(len(keys), config.model.id_length)
    if start:
        load_weights(model, start, str(config.checkpoint))
        table, matched = match_rows(start, keys)
        run.log(f"ID rows: {matched} matched by key, {len(keys) - matched} new ones start at the mean of the trained")
    model = accelerator.prepare(model)
    table.weights_PI = table.weights_PI.to(accelerator.device)
    return Learner(model, table, learner_config(config), accelerator.backward)


def start_from(config: RunConfig) -> Checkpoint | None:
    """The checkpoint that training starts from, if any; ValueError where its network is another one.

    Cycles, steps, exploration, canvas and board may change from one training to the next.
    """
    if config.checkpoint is None:
        return None
    checkpoint = load_checkpoint(Path(config.checkpoint))
    theirs, ours = build_config(checkpoint.config).model, config.model
    other = [
        f"model.{name} is {getattr(theirs, name)!r} there and {getattr(ours, name)!r} here"
        for name in SAME_NETWORK
        if getattr(theirs, name) != getattr(ours, name)
    ]
    if other:
        raise ValueError(f"{config.checkpoint} holds another network: {'; '.join(other)}; set them alike with --set")
    return checkpoint


def load_weights(model: RecursiveModel, checkpoint: Checkpoint, name: str) -> None:
    """Copy a checkpoint's best weights into the model; ValueError naming what does not fit."""
    try:
        model.load_state_dict(checkpoint.best_weights())
    except RuntimeError as error:
        lines = "\n".join(str(error).splitlines()[1:4])
        raise ValueError(f"{name}: its weights do not fit the model of this config:\n{lines}") from None


def learner_config(config: RunConfig) -> LearnerConfig:
    """The settings that the learner needs."""
    given = config.train
    return LearnerConfig(
        given.lr, given.weight_decay, given.betas, given.id_lr, given.id_weight_decay,
        given.warmup, given.steps, given.min_ratio, given.average, config.seed,
    )  # fmt: skip


class Session:
    """What goes on around the steps: metrics, accuracy on held-out demonstrations, checkpoints."""

    def __init__(
        self,
        config: RunConfig,
        keys: list[str],
        examples: Examples,
        learner: Learner,
        run: RunFolder,
        start: Checkpoint | None,
    ):
        self.config, self.keys, self.examples, self.learner, self.run = config, keys, examples, learner, run
        self.tally, self._start = Tally(), time.monotonic()
        self.seen, self.leaks = examples.puzzle_set.seen, examples.puzzle_set.leaks
        if start:
            self.seen, self.leaks = start.seen | self.seen, tuple(sorted({*start.leaks, *self.leaks}))

    def follow(self, result: StepResult, progress: Progress) -> None:
        """After each step: count, and from time to time measure and save."""
        self.tally.add(result)
        note = self._measure() if self.learner.steps % self.config.train.log_every == 0 else ""
        progress.advance(1, note)
        if self.learner.steps % self.config.train.checkpoint_every == 0:
            self._save(f"step_{self.learner.steps:07d}")

    def finish(self) -> Checkpoint:
        """Write and return the final checkpoint."""
        if self.tally.examples:
            self.run.log(f"trained {self.learner.steps} steps: {self._measure()}")
        return self._save("final")

    def _measure(self) -> str:
        """Means over the steps since the last time: to metrics.jsonl, and as a note for the progress bar."""
        metrics = self.tally.means()
        note = "loss {loss:.3f} exact {exact:.0%} {examples_per_second:.0f} examples/s".format(**metrics)
        if self.config.train.hold_out:
            metrics["held_out_exact"] = self.held_out_accuracy()
            note += f" held out {metrics['held_out_exact']:.0%}"
        self.run.measure(step=self.learner.steps, seconds=round(time.monotonic() - self._start, 2), **metrics)
        self.tally = Tally()
        return note

    def held_out_accuracy(self) -> float:
        """Share of held-out demonstrations that the averaged weights get right, un-augmented, at the last step."""
        learner, rights = self.learner, []
        with learner.average.averaged() if learner.average else nullcontext():
            for batch in example_batches(self.examples, *self.examples.held_out(), self.config.predict.batch_size):
                batch = batch.to(learner.table.weights_PI.device)
                steps = predict_steps(learner.model, learner.table, batch, self.config.predict.steps)
                output = last_output(steps)
                right_BS = (output.logits_BCV.argmax(-1) == batch.labels_BS) | (batch.labels_BS == 0)
                rights += right_BS.all(dim=1).tolist()
        return sum(rights) / len(rights)

    def _save(self, name: str) -> Checkpoint:
        average = self.learner.average
        checkpoint = Checkpoint(
            self.learner.model.state_dict(),
            average.state if average else None,
            self.learner.table.weights_PI,
            self.keys,
            self.learner.steps,
            self.config.model_dump(mode="json"),
            self.seen,
            self.leaks,
        )
        save_checkpoint(self.run.checkpoints / name, checkpoint)
        return checkpoint


class Tally:
    """Sums over training steps. The accuracies are those of the examples that left their slot."""

    def __init__(self) -> None:
        self.examples, self._since = 0, time.monotonic()
        self._sums: dict[str, Tensor] = {}

    def add(self, result: StepResult) -> None:
        """Count one step; nothing is kept but sums."""
        halted_B, loss = result.halted_B, result.losses
        sums = {
            "loss": loss.total,
            "halted": halted_B.sum(),
            "exact": (loss.exact_B & halted_B).sum(),
            "correct": (loss.correct_B * halted_B).sum(),
            "labelled": (loss.labelled_B * halted_B).sum(),
            "steps": (result.steps_B * halted_B).sum(),
        }
        self._sums = {name: self._sums.get(name, 0) + value for name, value in sums.items()}
        self.examples += len(halted_B)

    def means(self) -> dict[str, float]:
        """Loss per example, accuracy of whole examples and of cells, supervision steps taken, examples per second."""
        sums = {name: float(value) for name, value in self._sums.items()}
        return {
            "loss": sums["loss"] / self.examples,
            "exact": sums["exact"] / max(1.0, sums["halted"]),
            "cells": sums["correct"] / max(1.0, sums["labelled"]),
            "supervision_steps": sums["steps"] / max(1.0, sums["halted"]),
            "examples_per_second": self.examples / (time.monotonic() - self._since),
        }


def example_batches(examples: Examples, puzzles: np.ndarray, pairs: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """The examples asked for, in order, as batches."""
    for start in range(0, len(puzzles), batch_size):
        chosen = slice(start, start + batch_size)
        yield examples.render(puzzles[chosen], pairs[chosen])
