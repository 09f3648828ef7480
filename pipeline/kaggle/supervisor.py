"""A run that nobody watches: it keeps to its time, always has a valid submission, and goes on whatever breaks.

    filler -> build -> train -> cheap prediction -> train on -> ... -> last prediction -> score and report

This process never imports torch: it writes, builds and votes, and has the stages run as processes of their own
(`pipeline.worker`), which it watches, restarts and ends in time (`pipeline.kaggle.child_process`,
`pipeline.kaggle.schedule`). What goes wrong is an incident: listed at the end and in incidents.json; the run continues
with what it has.
"""

import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from augment import PuzzleSet, SourcedTasks, find_source_label, load_tasks
from augment.sources.lenient import load_readable_tasks
from augment.storage import write_json
from pipeline.config.run_config import RunConfig
from pipeline.data.build import build
from pipeline.kaggle.best_submission import BestSubmission
from pipeline.kaggle.child_process import ChildProcess, ChildResult
from pipeline.kaggle.pass_monitor import PassMonitor
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
"""So many times in the whole budget a checkpoint is written, if not more often by the number of steps."""
LEAST_SECONDS_BETWEEN_SAVES = 10.0
SHORTEST_STRETCH = 3.0
"""Seconds for which training is not started any more."""
LEAST_SECONDS_TO_STOP = 1.0
"""That training takes from its last step to its end; more, where it was seen to."""
GRACE_SHARE = 0.02
LEAST_GRACE = 10.0
"""Of the budget, and at least so many seconds: how long after its time training may take to write what it has."""
SECONDS_FOR_REPORT = 3.0
LONGEST_START = 60.0
"""Seconds that a process is believed to have taken before its first line of ours; more is a clock that was set."""


class RunStopped(Exception):
    """The run was asked to end."""


class Supervisor:
    """One run: its time, its submission, its incidents, and the stages in their order."""

    def __init__(self, config: RunConfig, path: Path, out: Path | None, processes: int | None):
        assert config.unattended is not None
        assert config.budget is not None
        before = time.time() - psutil.Process().create_time()
        self.started = time.monotonic() - min(max(before, 0.0), LONGEST_START)
        self.config = config
        self.settings = config.unattended
        tasks, unread = load_readable_tasks(config.source, config.selection.selection())
        self.run = RunFolder(path, config)
        self.stop = StopSignals()
        self.incidents = list[str]()
        self.tasks = tasks
        files = [self.run.submission, *([out] if out else [])]
        self.best = BestSubmission(tasks, unread, files, self.report_incident)
        self.best.begin()
        self.run.log(f"filler submission: {', '.join(map(str, files))}, {self.best.inputs} test inputs")
        for each in unread:
            self.report_incident(f"task {each.task} cannot be read and gets the filler ({each.why})")
        self.schedule = PassSchedule(config.budget, config.unattended, 1)
        self.restarts = RestartPolicy(config, self.run, self.report_incident)
        self.processes = processes or max(1, count_gpus())
        self.predictions: Predictions | None = None
        self._seconds_to_stop = LEAST_SECONDS_TO_STOP
        self.schedule_log = ScheduleLog(self.run)

    def now(self) -> float:
        """Seconds since the start of this process."""
        return time.monotonic() - self.started

    def report_incident(self, what: str) -> None:
        """Note what went wrong."""
        self.incidents.append(what)
        self.run.log(f"incident: {what}")
        with suppress(OSError):
            write_json(self.run.path / "incidents.json", self.incidents)

    def work(self) -> None:
        """Everything between the filler and the end."""
        with suppress(OSError):
            write_json(self.run.path / "incidents.json", self.incidents)
        if not self.tasks:
            return
        self.puzzle_set = self._build()
        asked = self.config.predict.augmentations
        most = self.puzzle_set.requested if asked is None else min(asked, self.puzzle_set.requested)
        predicts = self.config.predict
        cost = 1 + bool(predicts.rescore) / predicts.trajectories
        self.schedule = replace(self.schedule, most_views=most + 1, last_cost=cost)
        self.restarts.know(self.puzzle_set, self.processes)
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
        """Do this, and go on with what comes next whatever goes wrong in it."""
        try:
            stage()
        except RunStopped:
            raise
        except Exception as error:
            self.report_incident(f"unexpected: {type(error).__name__}: {error}")
            self.run.log(traceback.format_exc())

    def has_learnt(self) -> bool:
        """Whether there is a checkpoint to predict with."""
        return any(self.run.path.glob("checkpoints*/step_[0-9]*")) or any(self.run.path.glob("checkpoints*/final"))

    def _build(self) -> PuzzleSet:
        """The puzzle set of what can be read; one that a killed run left damaged is built again."""
        sources = [SourcedTasks(find_source_label(self.config.source), "scored", self.tasks)]
        for name in self.config.train_sources:
            try:
                sources.append(SourcedTasks(find_source_label(name), "train", load_tasks(name)))
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

    def train_until(self, begin: float) -> None:
        """Train until that many seconds after the start."""
        shortest = max(SHORTEST_STRETCH, self.schedule.speed.start if self.has_learnt() else 0.0)
        while self.restarts.may("train") and self.now() < begin - shortest:
            ended = self._start_training(begin)
            if ended.reason == "late":
                self.report_incident("training did not stop in time and was ended; the checkpoint before it is used")
            if ended.well or ended.reason == "late":
                return
            self.restarts.learn("train", ended)

    def _start_training(self, begin: float) -> ChildResult:
        last = self.schedule.last_pass(self.now()).begin
        budget = self.schedule.budget
        later = max(0.0, last - begin - (self.schedule.speed.seconds(self.settings.first_views)))
        stop = begin - self._seconds_to_stop
        words = ["train", str(self.run.path), "--until", f"{self.started + stop:.3f}", "--later", f"{later:.3f}"]
        words += ["--save-every", f"{max(LEAST_SECONDS_BETWEEN_SAVES, budget / SAVES):.3f}"]
        grace = max(LEAST_GRACE, GRACE_SHARE * budget)
        ended = self._run_child("train", words, begin + grace, self._log_schedule_when_due)
        self._seconds_to_stop = max(self._seconds_to_stop, self.now() - stop)
        return ended

    def predict(self, name: str, out: Path, planned: Pass, last: bool = False) -> None:
        """Have every test input answered, and vote what is there while it comes."""
        if not self.has_learnt():
            self.report_incident(f"{name} is left out: nothing has been learnt yet")
            return
        watch = PassMonitor(self.run, out, self.puzzle_set, self.config, self.best, self.report_incident)
        words = ["predict", str(self.run.path), "--out", str(out), "--views", str(planned.views)]
        words += ["--until", f"{self.started + planned.until:.3f}", *self._words_for_last(last)]
        self.restarts.begin_pass(watch.parts)
        self.run.log(f"{name}: {planned.views} augmentations, until {format_duration(planned.until)} at most")
        begun = time.monotonic()
        ended = None
        while self.restarts.may("predict") and self.now() < planned.until - SHORTEST_STRETCH:
            begun = time.monotonic()
            plain = ["--plain"] if last and self.restarts.restarts["predict"] > 1 else []
            try:
                ended = self._run_child("predict", [*words, *plain], planned.until, lambda: watch.look(name))
            except RunStopped:
                watch.finish(name)
                raise
            if ended.well or ended.reason == "late":
                break
            self.restarts.learn("predict", ended)
        if ended is not None and ended.reason == "late":
            self.report_incident(f"{name} was not done in time and was ended; what it had answered counts")
        self._take(watch, name, planned, None if self.restarts.restarts["predict"] else begun)
        if not last:
            self.log_schedule()

    def _words_for_last(self, last: bool) -> list[str]:
        """The last pass has all that the settings ask for, but for training on each task where that does not fit."""
        unknown = self.config.train.task_steps and not self.schedule.speed.extra
        if not last or (self.schedule.affords_extra() and not unknown):
            return ["--last"] if last else []
        self.report_incident(
            "training on each task by itself is left out: "
            + ("its pace is not known" if unknown else f"it would take {format_duration(self.schedule.speed.extra)}")
        )
        self.schedule = replace(self.schedule, speed=replace(self.schedule.speed, extra=0.0))
        return ["--last", "--plain"]

    def _take(self, watch: PassMonitor, name: str, planned: Pass, begun: float | None) -> None:
        """Vote what the pass gave, and learn from how long it took, if it was begun once."""
        found = watch.finish(name)
        if found is None:
            self.report_incident(f"{name} gave no answers; the submission stays as it was")
            return
        self.predictions = found
        if begun is not None:
            share = watch.share(planned.views)
            speed = self.schedule.speed
            self.schedule = replace(self.schedule, speed=speed.measured(*watch.seconds(begun), share, planned.views))

    def _run_child(self, stage: Stage, words: list[str], until: float, look: Callable[[], None]) -> ChildResult:
        words = [*words, *self.restarts.words(stage)]
        child = ChildProcess(
            words,
            self.restarts.processes(stage, self.processes),
            self.run.say,
            self.report_incident,
            self.run.beat_file,
        )
        try:
            ended = child.wait(
                self.started + until, self.settings.patience, lambda: self.stop.received is not None, look
            )
        finally:
            child.end()
        if ended.reason == "stopped":
            raise RunStopped
        speed = self.schedule.speed
        if ended.ready and speed.view is None:  # prediction starts like training: most of it is importing torch
            self.schedule = replace(self.schedule, speed=replace(speed, start=max(speed.start, 2 * ended.ready)))
        return ended

    def log_schedule(self) -> None:
        """Take the measured pace into the schedule, and log it."""
        steps, pace = measure_pace(self.run.path)
        if self.config.train.task_steps and pace:
            extra = len(self.tasks) * self.config.train.task_steps * pace
            self.schedule = replace(self.schedule, speed=replace(self.schedule.speed, extra=extra))
        self.schedule_log.write(self.schedule, self.now(), steps, pace)

    def _log_schedule_when_due(self) -> None:
        if self.schedule_log.is_due(self.schedule, self.now()):
            self.log_schedule()

    def end(self) -> bool:
        """Score and report where there is time; whether a complete and valid submission stands, with all incidents."""
        self.best.write()
        if self.tasks and self.schedule.finish - self.now() > SECONDS_FOR_REPORT:
            try:
                self._report()
            except Exception as error:  # the submission stands; a picture less is no reason to fail
                self.report_incident(f"no report: {type(error).__name__}: {error}")
        valid = self.best.is_valid()
        state = "is complete and valid" if valid else "IS NOT VALID"
        used = f"{format_duration(self.now())} of {format_duration(self.schedule.budget)}"
        answered = f"{self.best.answered} of {self.best.inputs} test inputs answered"
        self.run.log(f"done in {used}: {self.run.submission} {state}, {answered}")
        for line in self.incidents:
            self.run.log(f"  incident: {line}")
        return valid

    def _report(self) -> None:
        """The report, and the score where the solutions are known."""
        ballot = vote(self.predictions, self.tasks, self.config.predict.ranker) if self.predictions else None
        score_run(self.config, self.tasks, self.predictions, ballot, self.best.submission, self.run)
