"""Trains a model on a puzzle set, with checkpoints, metrics and a time limit: the second stage of a run.

Every step passes a batch to the learner (`solver.training.learner`), which refills its halted slots and updates all
weights. This module adds processes, time limits, progress, metrics and checkpoints. A run that was stopped or killed
resumes from its last checkpoint, with bit-identical results on the same CPU.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from augment import PuzzleSet
from augment.errors import UserError
from pipeline.checkpoints.checkpoint import Checkpoint, save_checkpoint
from pipeline.checkpoints.manager import CheckpointManager
from pipeline.checkpoints.training_state import TrainingState, state_errors
from pipeline.config.run_config import RunConfig
from pipeline.runtime.distributed import LaunchedProcesses
from pipeline.runtime.finish_marks import wait_on_disk
from pipeline.runtime.progress import Progress
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.stop_signals import StopSignals
from pipeline.time_budget import format_duration
from pipeline.training.agreement import Agreement
from pipeline.training.batch_source import BatchSource, next_batch
from pipeline.training.failed_step import check_weights, explain, save_failure
from pipeline.training.metrics import (
    Tally,
    choose_held_out,
    format_metrics,
    held_out_accuracy,
    held_out_batches,
    mean_movement,
)
from pipeline.training.setup import load_start, make_learner
from pipeline.training.trackers import flat_values
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset, check_board
from solver.data.puzzle_ids import check_draws
from solver.training.device_memory import MEMORY_ERRORS, ran_out_of_memory
from solver.training.step_result import NotFiniteError, StepResult

FIRST_PACE = 5
"""Steps after which the speed is known well enough to plan with; the first steps are slower."""


@dataclass(frozen=True)
class TrainingWindow:
    """The place of one training in a schedule that trains in several windows of time.

    Attributes:
        later: seconds of training in later windows.
        save_every: seconds between checkpoints, in addition to train.checkpoint_every; None for no such limit.
    """

    later: float = 0.0
    save_every: float | None = None


NO_WINDOW = TrainingWindow()


class Trainer:
    """One training, from the beginning or the last checkpoint until all steps are done, a signal, or the time limit."""

    def __init__(
        self, config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder, accelerator: Accelerator, window: TrainingWindow
    ):
        self.window = window
        self._saved_at = time.monotonic()
        self.config = config
        self.run = run
        self.puzzle_set = puzzle_set
        self.tally = Tally(config.model.figures)
        self.accelerator = accelerator
        self.processes = LaunchedProcesses(accelerator)
        self.agreement = Agreement(self.processes)
        run.log(f"processes: {self.processes.count}")
        _check_slots(config, self.processes.count)
        check_board(puzzle_set, config.model.board_side)
        check_draws(puzzle_set, config.puzzles.ids, config.puzzles.fixed_colours)
        self.examples = self._make_examples()
        self.keys = self.examples.row_keys
        start = load_start(config, run)
        self.sampler = self.examples.sampler(
            config.seed, config.train.source_weights, config.train.feed == "halted", config.train.visits
        )
        self.learner = make_learner(config, self.keys, self.accelerator.device, run, start, self.processes)
        self.batches = self._make_batches()
        self.held_out_batches = held_out_batches(config, accelerator.device, run.log)
        self.seen = start.seen | puzzle_set.seen if start else puzzle_set.seen
        self.leaks = tuple(sorted({*start.leaks, *puzzle_set.leaks})) if start else puzzle_set.leaks
        # Seconds used so far minus the time now: adding a later time gives the seconds used by then (`_used`).
        self._seconds = -time.monotonic()
        self.keeper = CheckpointManager(
            run.checkpoints, config.model_dump(mode="json"), self.keys, self.seen, self.leaks,
            process=self.processes.index, processes=self.processes.count, log=run.warn,
        )  # fmt: skip
        self._resume()
        self._first_step = self.learner.steps
        self._pace_from = time.monotonic()
        if config.train.trackers:
            self.accelerator.init_trackers("arc-trm", config=flat_values(config))

    def _make_examples(self) -> PuzzleDataset:
        """Return the training examples of the puzzle set, without the held-out demonstrations."""
        config = self.config
        return PuzzleDataset(
            self.puzzle_set, config.model.canvas, choose_held_out(config, self.puzzle_set),
            config.train.board_symmetries(self.puzzle_set.board_side), config.puzzles.ids, config.model.palette,
            redraw=not config.model.symbols,
        )  # fmt: skip

    def _make_batches(self) -> BatchSource:
        """Return the batches to train on. On a GPU they are drawn ahead, unless their size depends on what halts."""
        device = self.accelerator.device
        settings = self.config.train
        ahead = device.type == "cuda" and settings.feed == "all"
        # Without a reference to this object: a cycle would keep the run's lock until the next garbage collection.
        draw = partial(next_batch, self.examples, self.sampler, self.learner, settings)
        return BatchSource(draw, self.sampler, device, ahead)

    def _resume(self) -> None:
        """Load the newest checkpoint, if there is one, and check that all processes load the same."""
        if self.processes.index == 0:
            self.keeper.tidy()
        self.processes.wait()
        state = self.keeper.newest()
        steps = self.processes.gather(torch.tensor([state.step if state else -1]))
        if len({int(step) for step in steps}) > 1:
            raise UserError(
                f"{self.run.path}: not every process sees the same checkpoints",
                "use a file system that all processes share",
            )
        # Metrics of steps after the checkpoint are removed, as these steps are done again.
        self.run.forget_after(state.step if state else 0)
        if state is None:
            return
        if state.plain["puzzle_set"] != self.puzzle_set.digest:
            raise UserError(
                f"{self.run.path}: this run was started with another puzzle set",
                "name another folder with --run-dir, and --checkpoint to start from this run's weights",
            )
        with state_errors(self.run.checkpoints, state.step):
            self.learner.load(state.tensors, state.slots, state.plain["learner"])
            self.sampler.resume(state.plain["sampler"])
            self.tally.load(state.plain["tally"], self.processes)
            self._seconds += state.plain["seconds"]
            torch.set_rng_state(state.tensors["random"]["torch"])
        self.run.log(f"resumed at step {state.step}")

    def goes_on(self, stop: StopSignals, seconds_left: float) -> bool:
        """Return whether to make another step: the same value in all processes."""
        if self.learner.steps >= self.config.train.steps:
            return False
        return not self.agreement.ends(stop.received is not None or seconds_left <= 0)

    def step(self, progress: Progress, seconds_left: float, ends: Callable[[], bool]) -> None:
        """Make one step; measure, plan and save when due. A failed step raises a UserError with reason and fix.

        Args:
            progress: what the user sees of it.
            seconds_left: until training must end.
            ends: whether this process would make no further step, asked with several processes.
        """
        try:
            batch = self.batches.take()
            step = self.learner.steps + 1
            due = step % self.config.train.log_every == 0 or step == self.config.train.steps
            self.tally.add(self._step_in_memory(batch, due, ends))
            self._fit(due, seconds_left, progress)
            progress.advance(1, self._measure() if due else "")
        except NotFiniteError as error:
            folder = save_failure(error, self.learner, self.run.path)
            raise explain(error, self.keeper.last_step, folder) from error
        except MEMORY_ERRORS as error:
            if not ran_out_of_memory(error):
                raise
            raise explain(error, self.keeper.last_step) from error
        if self.learner.steps % self.config.train.checkpoint_every == 0 or self.agreement.saves(self._save_is_due()):
            self._save()

    def _save_is_due(self) -> bool:
        """Return whether the last checkpoint is older than `window.save_every`, by the clock of this process."""
        return self.window.save_every is not None and time.monotonic() - self._saved_at > self.window.save_every

    def _fit(self, due: bool, seconds_left: float, progress: Progress) -> None:
        """With train.fit, plan as many steps (for the schedules) as fit into the remaining time at the speed so far."""
        if not self.config.train.fit or seconds_left == float("inf"):
            return
        count = self.learner.steps - self._first_step
        now = time.monotonic()
        if count == 2:  # the first two steps include compilation and other warm-up, and are not timed
            self._pace_from = now
        if count <= 2 or not (due or count == FIRST_PACE):
            return
        more = int((seconds_left + self.window.later) * (count - 2) / (now - self._pace_from))
        planned = min(self.config.train.steps, self.learner.steps + max(1, more))
        # Clocks differ between processes, but all must plan the same number.
        self.learner.plan_steps(self.processes.smallest(planned))
        progress.expect(self.learner.config.total_steps)

    def _step_in_memory(self, batch: Batch, watched: bool, ends: Callable[[], bool]) -> StepResult:
        """Make one step, and log if it changed how many positions are computed at once."""
        before = self.learner.limit.most
        result = self.learner.step(batch, watched, self.agreement.votes(ends, self._save_is_due))
        self.agreement.record(result.votes)
        if self.learner.limit.most != before:
            self.run.log(self.learner.limit.change)
        return result

    def finish(self, stop: StopSignals, reserve: float) -> Checkpoint:
        """Write the last step's checkpoint and the final one; after a signal, write only the first and exit."""
        learner = self.learner
        total = self.config.train.steps
        if learner.steps % self.config.train.checkpoint_every or not learner.steps:
            self._save()
        self.keeper.wait_for_all()
        if self.processes.any(stop.received is not None) and learner.steps < total:
            self.run.log(f"stopped by a signal at step {learner.steps} of {total}; the same command resumes from there")
            sys.exit(128 + int(stop.received or 15))
        if learner.steps < total:
            self.run.log(self._describe_end(reserve))
        final = self._write_final()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return final

    def _describe_end(self, reserve: float) -> str:
        """Describe why training ends before all steps are done, and how to continue."""
        step = self.learner.steps
        total = self.learner.config.total_steps
        if self.window.later:
            return f"training stops at step {step:,} of about {total:,} for now"
        reserved = f", {format_duration(reserve)} being reserved for prediction" if reserve else ""
        return f"the budget ended training at step {step} of {total}{reserved}; the same command resumes from it"

    def _measure(self) -> str:
        """Log the means over the steps since the last call; returns the text beside the progress bar."""
        metrics: dict[str, Any] = self.tally.means(self.processes)
        moved = mean_movement(self.learner.movement, self.processes)
        if self.config.train.hold_out:
            steps = self.config.predict.steps
            metrics["held_out_exact"] = held_out_accuracy(self.learner, self.examples, steps, self.held_out_batches)
        if self.config.train.fit:
            metrics["planned_steps"] = self.learner.config.total_steps
        self.run.measure(step=self.learner.steps, seconds=round(self._used(), 2), **metrics, moved=moved)
        if self.config.train.trackers:
            flat = {f"moved/{name}/{n}": value for name, values in moved.items() for n, value in enumerate(values, 1)}
            self.accelerator.log(metrics | flat, step=self.learner.steps)
        self.tally = Tally(self.config.model.figures)
        return format_metrics(metrics)

    def _used(self) -> float:
        """Return the seconds of training so far, including those before the last resume."""
        return self._seconds + time.monotonic()

    def _save(self) -> None:
        """Save in the background everything that training needs to resume."""
        self._saved_at = time.monotonic()
        check_weights(self.learner, self.keeper.last_step)
        tensors = self.learner.tensors() | {"random": {"torch": torch.get_rng_state()}}
        plain = {
            "learner": self.learner.numbers(),
            "sampler": self.batches.position,
            "tally": self.tally.numbers(self.processes),
            "puzzle_set": self.puzzle_set.digest,
            "seconds": self._used(),
        }
        self.keeper.save(TrainingState(self.learner.steps, tensors, [self.learner.slots()], plain))

    def _write_final(self) -> Checkpoint:
        """Write the final checkpoint in the first process; return it in all."""
        learner = self.learner
        values = self.config.model_dump(mode="json")
        average = learner.average
        final = Checkpoint(
            learner.model.state_dict(), average.state if average else None, learner.table.weights_PI, self.keys,
            learner.steps, values, self.seen, self.leaks, shared_rows=learner.table.tensors().get("shared"),
        )  # fmt: skip
        with wait_on_disk(self.run.checkpoints, self.processes):
            if self.processes.index == 0:
                save_checkpoint(self.run.final_checkpoint, final)
        return final


def _check_slots(config: RunConfig, processes: int) -> None:
    """Raise a UserError if there are fewer slots than processes."""
    if config.train.batch_size < processes:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}, fewer than the {processes} processes; each needs a slot",
            "increase it, or launch fewer processes",
        )
