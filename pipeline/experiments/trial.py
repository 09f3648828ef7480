"""One training of a table, and everything its rows ask of it: a config and a folder in, result.json out.

A trial's folder is an ordinary run's, so a trial that is killed goes on where it was. result.json is written when all
is done, and a trial that has it is not made again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console as Screen

from augment import PuzzleSet, Task
from augment.errors import UserError
from augment.logic_puzzles.nqueens import complete
from augment.logic_puzzles.source import describe_logic_puzzles, is_queens
from augment.storage import read_json, write_json
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config.run_config import PredictSettings, RunConfig
from pipeline.data.build import build, load_sources
from pipeline.experiments.exact_match import exact_match
from pipeline.experiments.model_zoo import count_parameters
from pipeline.experiments.other_sides import match_on_side
from pipeline.experiments.spec import Ask, Way, Wide
from pipeline.prediction.predict import predict
from pipeline.runtime.distributed import join_process_group
from pipeline.runtime.run_folder import RunFolder, read_metrics
from pipeline.time_budget import Budget
from pipeline.training.train import train
from submissions.score import NOT_FOUND, find_candidate, measure_macro, submission_ranks
from submissions.submission_file import make_submission
from submissions.vote import Candidate, vote

ATTEMPTS = 2
SMALL_BOARDS = 64
"""Answered at once on a CPU: those of a table are much smaller than those that its usual number is for."""
RESULT = "result.json"


@dataclass(frozen=True)
class Trial:
    """A training with one seed.

    ask: how its rows ask it; steps: supervision steps of prediction that are looked at, None for those of training
    """

    name: str
    seed: int
    config: RunConfig
    ask: tuple[Ask, ...]
    steps: int | None
    folder: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """What came out, once all that is asked is answered; ValueError where that was with other settings."""
        found = self.found
        return found if found and set(map(str, self.ask)) <= found["answers"].keys() else None

    @property
    def found(self) -> dict[str, Any] | None:
        """What came out so far: rows run alone may have asked less."""
        file = self.folder / RESULT
        if not file.exists():
            return None
        found = read_json(file)
        if found["config"] != self.config.model_dump(mode="json"):
            raise UserError(
                f"{file}: was made with other settings", "name another folder with --out, or remove this one"
            )
        return found


@dataclass(frozen=True)
class Work:
    """A trial that is trained: what its rows ask."""

    trial: Trial
    run: RunFolder
    checkpoint: Checkpoint
    puzzle_set: PuzzleSet
    tasks: list[Task]


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train, ask and write; returns the result. What is already there is not made again."""
    if found := trial.result:
        return found
    started = time.monotonic()
    config = trial.config
    sources = load_sources(config)
    run = RunFolder(trial.folder, config)
    run.screen = Screen(quiet=True)
    puzzle_set = build(config, sources, run)
    checkpoint = train(config, puzzle_set, run, Budget(None))
    work = Work(trial, run, checkpoint, puzzle_set, list(sources[0].tasks))
    answered: dict[str, Any] = found["answers"] if (found := trial.found) else {}
    answers = answered | {str(ask): _ask(work, ask) for ask in trial.ask if str(ask) not in answered}
    metrics = read_metrics(run.path)
    result = {
        "config": config.model_dump(mode="json"),
        "versions": read_json(run.path / "versions.json")
        | {"threads": torch.get_num_threads(), "device": str(join_process_group().device)},
        "data": _describe(work),
        "tests": sum(len(task.tests) for task in work.tasks),
        "parameters": count_parameters(config.model),
        "passes": config.model.forward_passes,
        "depth": config.model.effective_depth,
        "training_seconds": metrics[-1]["seconds"],
        "seconds": round(time.monotonic() - started, 1),
        "metrics": metrics[-1],
        "curve": [[line["step"], line["exact"]] for line in metrics],
        "answers": answers,
    }
    write_json(trial.folder / RESULT, result)
    return result


def _describe(work: Work) -> dict[str, Any]:
    """What was solved: where it came from, how much, how hard."""
    trained = sum(len(work.puzzle_set.training_pairs(number)) for number in range(len(work.puzzle_set.tasks)))
    facts: dict[str, Any] = {"source": work.trial.config.source, "tasks": len(work.tasks), "trained pairs": trained}
    if work.trial.config.train.symmetry != "none":
        facts |= {name: round(value, 2) for name, value in describe_logic_puzzles(work.tasks[0]).items()}
    return facts


def _exact(work: Work) -> dict[str, Any]:
    """Every cell right, by supervision step; the value is that of as many steps as in training."""
    device = join_process_group().device
    config = work.trial.config
    right = exact_match(work.checkpoint, work.puzzle_set, work.tasks, device, work.trial.steps)
    return _by_step(right, config)


def _on_side(side: int, work: Work) -> dict[str, Any]:
    """The same of generated Sudokus of this side."""
    device = join_process_group().device
    right = match_on_side(work.checkpoint, work.tasks[0], side, device, work.trial.steps)
    return _by_step(right, work.trial.config)


def _by_step(right: NDArray[np.bool_], config: RunConfig) -> dict[str, Any]:
    """An answer of tests (tests, steps): the value is that of as many steps as in training."""
    value = float(right[:, min(config.model.max_steps, right.shape[1]) - 1].mean())
    return {"value": value, "steps": right.mean(0).round(6).tolist(), "right": _pack(right)}


def _voted(work: Work, settings: PredictSettings, checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Macro pass@2 and which test outputs are solved, by the votes of these predictions."""
    folder = work.run.path / name
    predictions = predict(checkpoint, work.puzzle_set, settings, folder, work.run)
    ballot = vote(predictions, work.tasks, settings.ranker)
    ranks = submission_ranks(make_submission(ballot, work.tasks), work.tasks, work.trial.config.source)
    right = np.concatenate(ranks) <= ATTEMPTS
    return {"value": measure_macro(ranks, ATTEMPTS), "right": _pack(right[:, None])}


def _votes(work: Work) -> dict[str, Any]:
    return _voted(work, work.trial.config.predict, work.checkpoint, "predictions")


def _one_view(work: Work) -> dict[str, Any]:
    """Of each task the original only."""
    settings = work.trial.config.predict.model_copy(update={"augmentations": 0})
    return _voted(work, settings, work.checkpoint, "predictions_one_view")


def _blank(work: Work) -> dict[str, Any]:
    """Every ID row zero, as where training starts."""
    blank = replace(work.checkpoint, id_rows=torch.zeros_like(work.checkpoint.id_rows))
    return _voted(work, work.trial.config.predict, blank, "predictions_blank")


def _shuffled(work: Work) -> dict[str, Any]:
    """The rows of the ID table dealt out anew, by chance."""
    rows = work.checkpoint.id_rows
    order = np.random.Generator(np.random.Philox(work.trial.seed)).permutation(len(rows))
    return _voted(
        work, work.trial.config.predict, replace(work.checkpoint, id_rows=rows[order]), "predictions_shuffled"
    )


ASK: dict[Way, Callable[[Work], dict[str, Any]]] = {
    "exact": _exact,
    "votes": _votes,
    "one view": _one_view,
    "blank IDs": _blank,
    "shuffled IDs": _shuffled,
    "4x4": partial(_on_side, 4),
    "6x6": partial(_on_side, 6),
}


def _ask(work: Work, ask: Ask) -> dict[str, Any]:
    return _ask_wide(work, ask) if isinstance(ask, Wide) else ASK[ask](work)


def _ask_wide(work: Work, ask: Wide) -> dict[str, Any]:
    """Votes of several trajectories; the value is pass@1 of boards and pass@2 of ARC tasks.

    "more" has both and the share of all solutions that is among the answers; "compute" the supervision steps made.
    """
    config = work.trial.config
    arc = work.trial.config.train.symmetry == "none"
    steps = ask.deeper * (config.predict.steps or config.model.max_steps)
    asked: dict[str, Any] = {"trajectories": ask.trajectories, "noise": ask.noise, "steps": steps, "ranker": ask.ranker}
    if join_process_group().device.type == "cpu":
        asked["batch_size"] = config.predict.batch_size or SMALL_BOARDS
    predictions = predict(
        work.checkpoint,
        work.puzzle_set,
        config.predict.model_copy(update=asked),
        work.run.path / f"predictions {ask.made}".replace(" ", "_"),
        work.run,
    )
    ballot = vote(predictions, work.tasks, ask.ranker)
    right = []
    for task in work.tasks:
        right.append([_found(task, test, candidates) for test, candidates in enumerate(ballot[task.id])])
    first, second, shares = (_macro(right, part) for part in range(3))
    solved = [[each[1 if arc else 0]] for task in right for each in task]
    return {
        "value": second if arc else first,
        "more": {"pass@1": first, "pass@2": second, "coverage": shares},
        "compute": ask.deeper * ask.trajectories,
        "right": _pack(np.array(solved, bool)),
    }


def _found(task: Task, test: int, candidates: Sequence[Candidate]) -> tuple[bool, bool, float]:
    """Whether the first answer is right, whether one of the first two, and the share of all solutions among them."""
    pair = task.tests[test]
    assert pair.output is not None
    solutions = complete(pair.input) if is_queens(task) else [pair.output]
    ranks = [find_candidate(each, candidates) for each in solutions]
    return min(ranks) <= 1, min(ranks) <= ATTEMPTS, sum(rank != NOT_FOUND for rank in ranks) / len(solutions)


def _macro(right: list[list[tuple[bool, bool, float]]], part: int) -> float:
    return float(np.mean([np.mean([each[part] for each in task]) for task in right]))


def _pack(right: NDArray[np.bool_]) -> list[str]:
    """Test inputs (tests, steps) as a string of 0 and 1 for each step."""
    return ["".join("01"[int(each)] for each in step) for step in right.T]


def unpack(answer: dict[str, Any], step: int = -1) -> NDArray[np.bool_]:
    """Which test inputs are right after a step, by default the last."""
    return np.array([each == "1" for each in answer["right"][step]])
