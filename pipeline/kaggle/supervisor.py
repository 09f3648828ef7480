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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from augment import PuzzleSet, SourcedTasks, find_source_label, load_tasks
from augment.sources.lenient import load_readable_tasks
from augment.storage import write_json
from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.data.build import build
from pipeline.kaggle.best_submission import BestSubmission
from pipeline.kaggle.child_process import ChildProcess, ChildResult
from pipeline.kaggle.pass_monitor import PassMonitor
from pipeline.kaggle.restart_policy import RestartPolicy, Stage
from pipeline.kaggle.schedule import Pass, PassSchedule
from pipeline.runtime.launcher import count_gpus
from pipeline.runtime.run_folder import RunFolder, read_metrics
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
LEAST_SECONDS_BETWEEN_PLANS = 5.0
PLAN_SAID = 20
"""So many times in the whole budget the plan is said again."""
SECONDS_FOR_REPORT = 3.0
LONGEST_START = 60.0
"""Seconds that a process is believed to have taken before its first line of ours; more is a clock that was set."""


class Stopped(Exception):
    """The run was asked to end."""


def solve_unattended(
    config: RunConfig, path: Path, out: Path | None = None, processes: int | None = None, lost: Sequence[str] = ()
) -> bool:
    """Spend the budget on a submission; returns whether a complete and valid one stands at the end.

    Args:
        out: where the submission is written too, besides RUN/submission.json.
        processes: how many share training and prediction; by default one for each GPU.
        lost: incidents before it began.

    Raises:
        ValueError: where nothing can be begun: no such source, no budget, a folder that holds something else.
    """
    if config.unattended is None or config.budget is None:
        raise ConfigError("a run that nobody watches keeps to a budget: name it with --budget, for example 11h50m")
    conductor = Supervisor(config, path, out, processes)
    for each in lost:
        conductor.report_incident(each)
    with conductor.stop.watched():
        try:
            conductor.work()
        except Stopped:
            conductor.report_incident("the run was asked to end and ends with what it has")
        except Exception as error:  # a valid submission stands, and nobody is there to start it again
            conductor.report_incident(f"unexpected: {type(error).__name__}: {error}")
            conductor.run.log(traceback.format_exc())
        return conductor.end()


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
        self.standing = BestSubmission(tasks, unread, files, self.report_incident)
        self.standing.begin()
        self.run.log(f"filler submission: {', '.join(map(str, files))}, {self.standing.inputs} test inputs")
        for each in unread:
            self.report_incident(f"task {each.task} cannot be read and gets the filler ({each.why})")
        self.plan = PassSchedule(config.budget, config.unattended, 1)
        self.recovery = RestartPolicy(config, self.run, self.report_incident)
        self.processes = processes or max(1, count_gpus())
        self.predictions: Predictions | None = None
        self._seconds_to_stop = LEAST_SECONDS_TO_STOP
        self._plan_said = 0.0
        self._pace_said = False
        self._last_plan = ""

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
        self.plan = replace(self.plan, most_views=most + 1, last_cost=cost)
        self.recovery.know(self.puzzle_set, self.processes)
        self.say_plan()
        for number, begin in enumerate(self.plan.cheap_passes(), 1):
            self._whatever(lambda begin=begin: self.train_until(begin))
            planned = self.plan.cheap_pass(self.now())
            out = self.run.path / "passes" / str(number)
            self._whatever(lambda name=f"pass {number}", out=out, planned=planned: self.predict(name, out, planned))
        self._whatever(lambda: self.train_until(self.plan.last_pass(self.now()).begin))
        last = self.plan.last_pass(self.now())
        self._whatever(lambda: self.predict("last pass", self.run.predictions, last, last=True))

    def _whatever(self, stage: Callable[[], None]) -> None:
        """Do this, and go on with what comes next whatever goes wrong in it."""
        try:
            stage()
        except Stopped:
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
        shortest = max(SHORTEST_STRETCH, self.plan.speed.start if self.has_learnt() else 0.0)
        while self.recovery.may("train") and self.now() < begin - shortest:
            ended = self._start_training(begin)
            if ended.reason == "late":
                self.report_incident("training did not stop in time and was ended; the checkpoint before it is used")
            if ended.well or ended.reason == "late":
                return
            self.recovery.learn("train", ended)

    def _start_training(self, begin: float) -> ChildResult:
        last = self.plan.last_pass(self.now()).begin
        budget = self.plan.budget
        later = max(0.0, last - begin - (self.plan.speed.seconds(self.settings.first_views)))
        stop = begin - self._seconds_to_stop
        words = ["train", str(self.run.path), "--until", f"{self.started + stop:.3f}", "--later", f"{later:.3f}"]
        words += ["--save-every", f"{max(LEAST_SECONDS_BETWEEN_SAVES, budget / SAVES):.3f}"]
        grace = max(LEAST_GRACE, GRACE_SHARE * budget)
        ended = self._run_child("train", words, begin + grace, self._watch_training)
        self._seconds_to_stop = max(self._seconds_to_stop, self.now() - stop)
        return ended

    def predict(self, name: str, out: Path, planned: Pass, last: bool = False) -> None:
        """Have every test input answered, and vote what is there while it comes."""
        if not self.has_learnt():
            self.report_incident(f"{name} is left out: nothing has been learnt yet")
            return
        watch = PassMonitor(self.run, out, self.puzzle_set, self.config, self.standing, self.report_incident)
        words = ["predict", str(self.run.path), "--out", str(out), "--views", str(planned.views)]
        words += ["--until", f"{self.started + planned.until:.3f}", *self._words_for_last(last)]
        self.recovery.begin_pass(watch.parts)
        self.run.log(f"{name}: {planned.views} augmentations, until {format_duration(planned.until)} at most")
        begun = time.monotonic()
        ended = None
        while self.recovery.may("predict") and self.now() < planned.until - SHORTEST_STRETCH:
            begun = time.monotonic()
            plain = ["--plain"] if last and self.recovery.restarts["predict"] > 1 else []
            try:
                ended = self._run_child("predict", [*words, *plain], planned.until, lambda: watch.look(name))
            except Stopped:
                watch.finish(name)
                raise
            if ended.well or ended.reason == "late":
                break
            self.recovery.learn("predict", ended)
        if ended is not None and ended.reason == "late":
            self.report_incident(f"{name} was not done in time and was ended; what it had answered counts")
        self._take(watch, name, planned, None if self.recovery.restarts["predict"] else begun)
        if not last:
            self.say_plan()

    def _words_for_last(self, last: bool) -> list[str]:
        """The last pass has all that the settings ask for, but for training on each task where that does not fit."""
        unknown = self.config.train.task_steps and not self.plan.speed.extra
        if not last or (self.plan.affords_extra() and not unknown):
            return ["--last"] if last else []
        self.report_incident(
            "training on each task by itself is left out: "
            + ("its pace is not known" if unknown else f"it would take {format_duration(self.plan.speed.extra)}")
        )
        self.plan = replace(self.plan, speed=replace(self.plan.speed, extra=0.0))
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
            speed = self.plan.speed
            self.plan = replace(self.plan, speed=speed.measured(*watch.seconds(begun), share, planned.views))

    def _run_child(self, stage: Stage, words: list[str], until: float, look: Callable[[], None]) -> ChildResult:
        words = [*words, *self.recovery.words(stage)]
        child = ChildProcess(
            words,
            self.recovery.processes(stage, self.processes),
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
            raise Stopped
        speed = self.plan.speed
        if ended.ready and speed.view is None:  # prediction starts like training: most of it is importing torch
            self.plan = replace(self.plan, speed=replace(speed, start=max(speed.start, 2 * ended.ready)))
        return ended

    def _watch_training(self) -> None:
        """Say the plan when the pace is known, and again from time to time."""
        often = self.plan.budget / (PLAN_SAID if self._pace_said else 10 * PLAN_SAID)
        if self.now() - self._plan_said > max(LEAST_SECONDS_BETWEEN_PLANS, often):
            self.say_plan()

    def say_plan(self) -> None:
        """A line on what follows."""
        self._plan_said = self.now()
        steps, pace = self.pace()
        self._pace_said = pace is not None
        if self.config.train.task_steps and pace:
            extra = len(self.tasks) * self.config.train.task_steps * pace
            self.plan = replace(self.plan, speed=replace(self.plan.speed, extra=extra))
        said = self.plan.describe(self.now(), steps, pace)
        if said != self._last_plan:
            self.run.log(f"plan: {said}")
        self._last_plan = said

    def pace(self) -> tuple[int, float | None]:
        """Steps so far, and the seconds that one takes, where it is known."""
        lines = read_metrics(self.run.path)[-4:]
        steps = lines[-1]["step"] if lines else 0
        if len(lines) < 2 or steps <= lines[0]["step"]:
            return steps, None
        return steps, (lines[-1]["seconds"] - lines[0]["seconds"]) / (steps - lines[0]["step"])

    def end(self) -> bool:
        """Score and report where there is time; whether a complete and valid submission stands, with all incidents."""
        self.standing.write()
        if self.tasks and self.plan.finish - self.now() > SECONDS_FOR_REPORT:
            try:
                self._report()
            except Exception as error:  # the submission stands; a picture less is no reason to fail
                self.report_incident(f"no report: {type(error).__name__}: {error}")
        valid = self.standing.is_valid()
        state = "is complete and valid" if valid else "IS NOT VALID"
        used = f"{format_duration(self.now())} of {format_duration(self.plan.budget)}"
        answered = f"{self.standing.answered} of {self.standing.inputs} test inputs answered"
        self.run.log(f"done in {used}: {self.run.submission} {state}, {answered}")
        for line in self.incidents:
            self.run.log(f"  incident: {line}")
        return valid

    def _report(self) -> None:
        """The report, and the score where the solutions are known."""
        ballot = vote(self.predictions, self.tasks, self.config.predict.ranker) if self.predictions else None
        score_run(self.config, self.tasks, self.predictions, ballot, self.standing.submission, self.run)
