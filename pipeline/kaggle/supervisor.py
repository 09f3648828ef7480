"""The supervisor of an unattended run: it meets the time budget, restarts failed stages and always has a submission.

    placeholder -> build -> train -> cheap prediction -> train -> ... -> last prediction -> score and report

This process never imports torch: it writes the submission, builds the puzzle set and votes. Training and prediction
run as child processes (`pipeline.worker`), which it monitors, restarts and ends in time
(`pipeline.kaggle.child_process`, `pipeline.kaggle.schedule`). A failure is recorded as an incident, listed at the end
and in incidents.json; the run continues with what it has.
"""

import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from augment import PuzzleSet, SourcedTasks, find_source_label
from augment.sources.lenient import load_readable_source
from pipeline.config.run_config import RunConfig
from pipeline.data.build import build, gather_train
from pipeline.kaggle.best_submission import BestSubmission
from pipeline.kaggle.child_process import ChildProcess, ChildResult
from pipeline.kaggle.incidents import Incidents
from pipeline.kaggle.pass_monitor import PassMonitor, remove_parts
from pipeline.kaggle.restart_policy import RestartPolicy, Stage
from pipeline.kaggle.schedule import Pass, PassSchedule
from pipeline.kaggle.schedule_log import ScheduleLog, measure_pace
from pipeline.runtime.launcher import count_gpus
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.stop_signals import StopSignals
from pipeline.scoring.submit import score_run
from pipeline.time_budget import format_duration
from submissions.predictions import Predictions
from submissions.vote import vote

SAVES = 40
"""How many checkpoints are written over the whole budget, unless `train.checkpoint_every` asks for more."""
LEAST_SECONDS_BETWEEN_SAVES = 10.0
SHORTEST_STRETCH = 3.0
"""Seconds: a stage is not started for less time than this."""
LEAST_SECONDS_TO_STOP = 1.0
"""Assumed seconds from training's last step to the end of its process, until a longer time has been measured."""
GRACE_SHARE = 0.02
LEAST_GRACE = 10.0
"""How long training may write its state after its time is up: this share of the budget, at least so many seconds."""
LONGEST_WITHOUT_CHECKPOINT = 60.0
"""Seconds after which a training that was ended without a checkpoint has failed; a shorter one had too little time."""
SECONDS_FOR_REPORT = 3.0
LONGEST_START = 60.0
"""Limit in seconds on the measured start-up time of this process; a larger value means that the clock was changed."""


class RunStopped(Exception):
    """A signal asked the run to end."""


class Supervisor:
    """One unattended run: its time, its submission, its incidents and its stages."""

    def __init__(self, config: RunConfig, path: Path, out: Path | None, processes: int | None):
        assert config.unattended is not None
        assert config.budget is not None
        # The budget includes the start of the interpreter and the imports before this line.
        before = time.time() - psutil.Process().create_time()
        self.started = time.monotonic() - min(max(before, 0.0), LONGEST_START)
        self.config = config
        self.settings = config.unattended
        tasks, unread, self.left_out = load_readable_source(config.source, config.selection.selection())
        self.run = RunFolder(path, config)
        self.stop = StopSignals()
        self.incidents = Incidents(self.run)
        self.report_incident = self.incidents.report
        self.tasks = tasks
        files = [self.run.submission, *([out] if out else [])]
        self.best = BestSubmission(tasks, unread, files, self.report_incident)
        self.best.open()
        self.run.log(f"placeholder submission: {', '.join(map(str, files))}, {self.best.inputs} test inputs")
        for failure in unread:
            self.report_incident(f"task {failure.task} cannot be read and gets the placeholder ({failure.why})")
        self.schedule = PassSchedule(config.budget, config.unattended, 1)
        self.restarts = RestartPolicy(config, self.run, self.report_incident)
        self.processes = processes or max(1, count_gpus())
        self.predictions: Predictions | None = None
        self._training_failed = False
        self._seconds_to_stop = LEAST_SECONDS_TO_STOP
        self.schedule_log = ScheduleLog(self.run)

    def now(self) -> float:
        """Return the seconds since the start of this process."""
        return time.monotonic() - self.started

    def run_stages(self) -> None:
        """Build, then train and predict in turn until the budget is spent."""
        self.incidents.write()
        if not self.tasks:
            return
        remove_parts(self.run)
        self.puzzle_set = self._build()
        predict = self.config.predict
        limit = predict.augmentations
        augmentations = self.puzzle_set.requested if limit is None else min(limit, self.puzzle_set.requested)
        cost = 1 + bool(predict.rescore) / predict.trajectories
        self.schedule = replace(self.schedule, most_views=augmentations + 1, last_cost=cost)
        self.restarts.set_batch_size(self.puzzle_set, self.processes)
        self.log_schedule()
        for number, begin in enumerate(self.schedule.cheap_passes(), 1):
            self._attempt(lambda begin=begin: self.train_until(begin))
            planned = self.schedule.cheap_pass(self.now())
            out = self.run.path / "passes" / str(number)
            self._attempt(lambda name=f"pass {number}", out=out, planned=planned: self.predict(name, out, planned))
        self._attempt(lambda: self.train_until(self.schedule.last_pass(self.now()).begin))
        last = self.schedule.last_pass(self.now())
        self._attempt(lambda: self.predict("last pass", self.run.predictions, last, last=True))

    def _attempt(self, stage: Callable[[], None]) -> None:
        """Run one stage; an unexpected error becomes an incident, so that the next stage still runs."""
        try:
            stage()
        except RunStopped:
            raise
        except Exception as error:
            self.report_incident(f"unexpected: {type(error).__name__}: {error}")
            self.run.log(traceback.format_exc())

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to predict with, one that was put aside as damaged included."""
        return any(self.run.path.glob("checkpoints*/step_[0-9]*")) or any(self.run.path.glob("checkpoints*/final"))

    def _build(self) -> PuzzleSet:
        """Build the puzzle set of the readable tasks; one that a killed run left damaged is built again."""
        sources = [SourcedTasks(find_source_label(self.config.source), "scored", self.tasks, self.left_out)]
        for name in self.config.train_sources:
            try:
                sources.append(gather_train(name))
            except ValueError as error:
                self.report_incident(f"{error}; it is not trained on")
        try:
            return build(self.config, sources, self.run)
        except ValueError as error:
            if not self.run.puzzles.exists():
                raise
            self.report_incident(f"{error}; it is built again")
            shutil.rmtree(self.run.puzzles)
            return build(self.config, sources, self.run)

    def train_until(self, end: float) -> None:
        """Train until `end`, in seconds since the start of the run; restart training that fails."""
        # A resumed training needs its start-up time before the first step, so a shorter stretch would train nothing.
        shortest = max(SHORTEST_STRETCH, self.schedule.speed.start if self.has_checkpoint() else 0.0)
        while self.restarts.may_start("train") and self.now() < end - shortest:
            begin, failed_before = self.now(), self._training_failed
            self._training_failed = True
            result = self._start_training(end)
            if result.reason == "late":
                left = "the checkpoint before it is used" if self.has_checkpoint() else "there is no checkpoint"
                self.report_incident(f"training did not stop in time and was ended; {left}")
                self._training_failed = failed_before or self.now() - begin > LONGEST_WITHOUT_CHECKPOINT
            self._training_failed &= not result.succeeded
            if result.succeeded or result.reason == "late":
                return
            self.restarts.record_failure("train", result)

    def _start_training(self, end: float) -> ChildResult:
        last = self.schedule.last_pass(self.now()).begin
        budget = self.schedule.budget
        later = max(0.0, last - end - (self.schedule.speed.seconds(self.settings.first_views)))
        stop = end - self._seconds_to_stop
        arguments = ["train", str(self.run.path), "--until", f"{self.started + stop:.3f}", "--later", f"{later:.3f}"]
        arguments += ["--save-every", f"{max(LEAST_SECONDS_BETWEEN_SAVES, budget / SAVES):.3f}"]
        grace = max(LEAST_GRACE, GRACE_SHARE * budget)
        result = self._run_child("train", arguments, end + grace, self._log_schedule_when_due)
        # A training that took longer to stop than expected is stopped earlier the next time.
        self._seconds_to_stop = max(self._seconds_to_stop, self.now() - stop)
        return result

    def predict(self, name: str, out: Path, planned: Pass, last: bool = False) -> None:
        """Predict every test input, and update the submission while predictions arrive.

        Args:
            name: of the pass, for log lines.
            out: the predictions folder.
            planned: the time and augmentations of the pass.
            last: whether to predict with all that the config asks for.
        """
        if not self.has_checkpoint():
            self.report_incident(f"{name} is left out: no checkpoint has been written yet")
            return
        monitor = PassMonitor(self.run, out, self.puzzle_set, self.config, self.best, self.report_incident)
        arguments = ["predict", str(self.run.path), "--out", str(out), "--views", str(planned.views)]
        arguments += ["--until", f"{self.started + planned.until:.3f}", *self._options_for_last(last)]
        self.restarts.begin_pass(monitor.parts)
        self.run.log(f"{name}: {planned.views} augmentations, until {format_duration(planned.until)} at most")
        begin = time.monotonic()
        result = None
        while self.restarts.may_start("predict") and self.now() < planned.until - SHORTEST_STRETCH:
            begin = time.monotonic()
            # Training on each task may be what fails: after two failures the last pass does without it.
            plain = ["--plain"] if last and self.restarts.restarts["predict"] > 1 else []
            try:
                result = self._run_child("predict", [*arguments, *plain], planned.until, lambda: monitor.poll(name))
            except RunStopped:
                monitor.finish(name)
                raise
            if result.succeeded or result.reason == "late":
                break
            self.restarts.record_failure("predict", result)
        if result is not None and result.reason == "late":
            self.report_incident(f"{name} was not done in time and was ended; its predictions so far are used")
        self._take_over(monitor, name, planned, None if self.restarts.restarts["predict"] else begin)
        if not last:
            self.log_schedule()

    def _options_for_last(self, last: bool) -> list[str]:
        """Return the worker's options for the last pass, without training on each task if that does not fit."""
        unknown = self.config.train.task_steps and not self.schedule.speed.extra
        if not last or (self.schedule.affords_extra() and not unknown):
            return ["--last"] if last else []
        self.report_incident(
            "training on each task by itself is left out: "
            + ("its pace is not known" if unknown else f"it would take {format_duration(self.schedule.speed.extra)}")
        )
        self.schedule = replace(self.schedule, speed=replace(self.schedule.speed, extra=0.0))
        return ["--last", "--plain"]

    def _take_over(self, monitor: PassMonitor, name: str, planned: Pass, begin: float | None) -> None:
        """Vote on the predictions of a pass and measure its speed.

        begin: when its process was started (monotonic); None if it was restarted, which makes the time meaningless
        """
        predictions = monitor.finish(name)
        if predictions is None:
            self.report_incident(f"{name} gave no predictions; the submission stays as it was")
            return
        self.predictions = predictions
        if begin is not None:
            share = monitor.completed_share(planned.views)
            start, seconds = monitor.durations(begin)
            speed = self.schedule.speed.with_measurement(start, seconds, share, planned.views)
            self.schedule = replace(self.schedule, speed=speed)

    def _run_child(self, stage: Stage, arguments: list[str], until: float, on_poll: Callable[[], None]) -> ChildResult:
        """Run a stage until `until`, in seconds since the start of the run; RunStopped if a signal comes."""
        arguments = [*arguments, *self.restarts.options(stage)]
        processes = self.restarts.process_count(stage, self.processes)
        child = ChildProcess(arguments, processes, self.run.say, self.incidents.report_once, self.run.beat_file)
        try:
            result = child.wait(
                self.started + until, self.settings.patience, lambda: self.stop.received is not None, on_poll
            )
        finally:
            child.end()
        if result.reason == "stopped":
            raise RunStopped
        speed = self.schedule.speed
        if result.ready and speed.view is None:  # prediction starts like training: most of it is importing torch
            self.schedule = replace(self.schedule, speed=replace(speed, start=max(speed.start, 2 * result.ready)))
        return result

    def log_schedule(self) -> None:
        """Put the measured pace of training into the schedule, and log it."""
        steps, pace = measure_pace(self.run.path)
        if self.config.train.task_steps and pace:
            extra = len(self.tasks) * self.config.train.task_steps * pace
            self.schedule = replace(self.schedule, speed=replace(self.schedule.speed, extra=extra))
        self.schedule_log.write(self.schedule, self.now(), steps, pace)

    def _log_schedule_when_due(self) -> None:
        if self.schedule_log.is_due(self.schedule, self.now()):
            self.log_schedule()

    def finish(self) -> bool:
        """Write all results; return whether the submissions are valid, and not every training has failed."""
        self.best.write()
        if self.tasks and self.schedule.finish - self.now() > SECONDS_FOR_REPORT:
            try:
                self._report()
            except Exception as error:  # the submission is written: a missing report must not fail the run
                self.report_incident(f"no report: {type(error).__name__}: {error}")
        learned = self.has_checkpoint() or self.stop.received is not None or not self._training_failed
        if not learned:
            self.report_incident("nothing was learned: every training failed, and the submission stays as it was")
        valid = self.best.is_valid()
        state = "is complete and valid" if valid else "IS NOT VALID"
        used = f"{format_duration(self.now())} of {format_duration(self.schedule.budget)}"
        answered = f"{self.best.answered} of {self.best.inputs} test inputs answered"
        self.run.log(f"done in {used}: {self.run.submission} {state}, {answered}")
        for line in self.incidents:
            self.run.log(f"  incident: {line}")
        return valid and learned

    def _report(self) -> None:
        """Write the report, and the score if the solutions are known."""
        ballot = vote(self.predictions, self.tasks, self.config.predict.ranker) if self.predictions else None
        score_run(self.config, self.tasks, self.predictions, ballot, self.best.submission, self.run)
