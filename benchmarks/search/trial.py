"""One setting, one seed: built, trained, asked and scored through the project's own functions.

In: a Trial. Out: a record, plain values that become a line of a JSON-lines file (`benchmarks.search.records`).
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from augment import PuzzleSet, SourcedTasks, Task
from benchmarks.search.settings import Setting
from pipeline.config.run_config import ConfigError, RunConfig, override
from pipeline.data.build import gather, make_puzzle_set
from pipeline.ensemble import each_model, pool_predictions, run_folders
from pipeline.experiments.model_zoo import count_parameters
from pipeline.prediction.stage import run_prediction
from pipeline.runtime.console import Console
from pipeline.runtime.provenance import versions
from pipeline.runtime.run_folder import RunFolder, read_metrics
from pipeline.time_budget import Budget
from pipeline.training.flop import step_flop, steps_within
from pipeline.training.train import train
from submissions import make_submission, score_submission, vote
from submissions.predictions import Predictions
from submissions.score import Score, submission_ranks
from submissions.submission_file import ATTEMPTS, Submission

SOURCE = "development"
MOST_STEPS = 10_000_000
"""Planned for until the pace is known, where the budget is in seconds."""

Unit = Literal["flop", "seconds", "steps"]


@dataclass(frozen=True)
class Allowance:
    """What training may take: FLOP, seconds of wall-clock time, or steps."""

    unit: Unit
    amount: float

    def __post_init__(self) -> None:
        """Refuse nothing and less."""
        if not self.amount > 0:
            raise ConfigError(f"--{self.unit} {self.amount:g}: must be more than 0")


@dataclass(frozen=True)
class Trial:
    """A setting under its name, the tasks of a set, a seed, and what training may take (None: the setting's steps)."""

    name: str
    setting: Setting
    task_set: str
    tasks: tuple[Task, ...]
    seed: int
    allowance: Allowance | None = None

    def config(self) -> RunConfig:
        """The setting's config with this seed and without a budget of its own."""
        return override(self.setting.config(), {"seed": self.seed, "budget": None})


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train, predict and score on one thread; the record of it.

    Raises:
        ValueError: where the setting cannot be, cannot be trained, or the allowance pays for no step.
    """
    torch.set_num_threads(1)
    config = trial.config()
    tasks = list(trial.tasks)
    puzzle_set = build_tasks(config, tasks)
    config = plan(config, puzzle_set, trial.allowance)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run", config)
        run.screen = Console(quiet=True).screen
        clock = training_clock(trial.allowance)
        for model in each_model(config, run, clock):
            checkpoint = train(model.config, puzzle_set, model.run, clock, model.reserve)
            run_prediction(config, checkpoint, puzzle_set, model.predictions, model.run)
        predictions = pool_predictions(config, run)
        several = [read_metrics(path) for path in run_folders(config, run.path)]
    ends, metrics = [lines[-1] for lines in several], several[0]
    trained, steps = sum(line["seconds"] for line in ends), sum(line["step"] for line in ends)
    made = {"steps": steps, "examples": steps * config.train.batch_size, "ensemble": config.ensemble}
    made |= {"flop": steps * step_flop(config, puzzle_set), "seconds": round(trained, 2)}
    made |= {"predict_seconds": round(clock.used() - trained, 2), "threads": torch.get_num_threads()}
    made |= {"weights": count_parameters(config.model)}
    made |= {"exact": exact_at_the_end(metrics, config.train.log_every)}
    return describe(trial, config) | made | figures(config, predictions, tasks)


def exact_at_the_end(metrics: list[dict[str, Any]], log_every: int) -> float | None:
    """The share of examples that came out whole in the last full window; a window of one step may end none of them."""
    full = [line for line in metrics if line["step"] % log_every == 0] or metrics
    return full[-1].get("exact") if full else None


def build_tasks(config: RunConfig, tasks: list[Task]) -> PuzzleSet:
    """The puzzle set of the development tasks and of the config's train sources."""
    sources = gather([], config.selection.selection(), list(config.train_sources))
    scored = SourcedTasks(SOURCE, "scored", tasks)
    return make_puzzle_set([scored, *sources], config.puzzles, config.seed, config.model.board_side)


def plan(config: RunConfig, puzzle_set: PuzzleSet, allowance: Allowance | None) -> RunConfig:
    """The config with as many steps as the allowance pays for; with seconds they are planned while training."""
    if allowance is None:
        return config
    if allowance.unit == "seconds":
        return override(config, {"train.steps": MOST_STEPS, "train.fit": True})
    share = allowance.amount / config.ensemble
    paid = steps_within(share, config, puzzle_set) if allowance.unit == "flop" else int(share)
    return override(config, {"train.steps": paid})


def training_clock(allowance: Allowance | None) -> Budget:
    """A clock that starts now and ends training after the seconds allowed, if any are."""
    return Budget(allowance.amount if allowance and allowance.unit == "seconds" else None)


def describe(trial: Trial, config: RunConfig) -> dict[str, Any]:
    """What was run."""
    allowance = trial.allowance or Allowance("steps", config.train.steps)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": versions()["commit"],
        "name": trial.name,
        "recipe": trial.setting.recipe,
        "changes": dict(trial.setting.changes),
        "tasks": trial.task_set,
        "seed": trial.seed,
        "budget": {"unit": allowance.unit, "amount": allowance.amount},
    }


def figures(config: RunConfig, predictions: Predictions, tasks: list[Task]) -> dict[str, Any]:
    """What it scored: counts of test outputs, shares, and which outputs an attempt solves ("TASK/NUMBER")."""
    ballot = vote(predictions, tasks, config.predict.ranker)
    submission = make_submission(ballot, tasks)
    score = score_submission(submission, tasks, SOURCE, ballot)
    return {
        "solved": round(score.pass_2.micro * score.outputs),
        "covered": covered_outputs(score),
        "outputs": score.outputs,
        "right": share_right(predictions, tasks),
        "macro": score.pass_2.macro,
        "solved_outputs": solved_outputs(submission, tasks),
    }


def covered_outputs(score: Score) -> int:
    """Test outputs whose right grid is among the candidates."""
    assert score.coverage is not None
    return round(score.coverage.micro * score.outputs)


def solved_outputs(submission: Submission, tasks: list[Task]) -> dict[str, bool]:
    """Whether one of two attempts is right, by "TASK/NUMBER" of the test output."""
    ranks = submission_ranks(submission, tasks, SOURCE)
    return {
        f"{task.id}/{number}": rank <= len(ATTEMPTS)
        for task, task_ranks in zip(tasks, ranks, strict=True)
        for number, rank in enumerate(task_ranks)
    }


def share_right(predictions: Predictions, tasks: list[Task]) -> float:
    """The share of single predictions whose grid is the right one."""
    truth = {(task.id, number): pair.output for task in tasks for number, pair in enumerate(task.tests)}
    ballot = vote(predictions, tasks)
    right = sum(
        candidate.count
        for task in tasks
        for number, candidates in enumerate(ballot[task.id])
        for candidate in candidates
        if np.array_equal(candidate.grid, truth[task.id, number])  # type: ignore[arg-type]
    )
    return right / len(predictions.answers)
