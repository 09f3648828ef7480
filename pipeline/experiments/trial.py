"""Runs one trial of a table: trains a config with one seed, evaluates it for its rows, and writes result.json.

A trial's folder is an ordinary run folder, so a trial that was killed resumes. result.json is written at the end, and a
trial that has all results is not run again.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from augment import PuzzleSet, SourcedTasks, Task
from augment.errors import UserError
from augment.logic_puzzles.nqueens import complete
from augment.logic_puzzles.recognition import describe_logic_puzzles, is_queens
from augment.schema import read_fields
from augment.storage import write_json
from augment.text_files import read_json
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config.run_config import PredictSettings, RunConfig
from pipeline.data.build import build, load_sources
from pipeline.experiments.exact_match import exact_match
from pipeline.experiments.model_zoo import count_parameters
from pipeline.experiments.other_sides import match_on_side
from pipeline.experiments.spec import Ask, Way, Wide
from pipeline.experiments.trial_schema import FIX, TrialResult
from pipeline.prediction.predict import predict
from pipeline.runtime.console import Screen
from pipeline.runtime.distributed import join_process_group
from pipeline.runtime.provenance import read_versions
from pipeline.runtime.run_folder import RunFolder, read_metrics
from pipeline.time_budget import Budget
from pipeline.training.train import train
from submissions.score import NOT_FOUND, find_candidate, measure_macro, submission_ranks
from submissions.submission_file import make_submission
from submissions.vote import Candidate, vote

ATTEMPTS = 2
SMALL_BOARDS = 64
"""Batch size of wide predictions on a CPU, in full boards; the boards of a table are small, so many fit at once."""
RESULT = "result.json"


@dataclass(frozen=True)
class Trial:
    """A training with one seed.

    Attributes:
        name: name of the row that it trains.
        seed: the seed, which the config has too.
        config: the config to train.
        ask: the evaluations that the rows need.
        steps: supervision steps of an exact-match evaluation; None for as many as in training.
        folder: the run folder.
    """

    name: str
    seed: int
    config: RunConfig
    ask: tuple[Ask, ...]
    steps: int | None
    folder: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json if it has all evaluations, else None; UserError if its settings are others."""
        result = self.found
        return result if result and set(map(str, self.ask)) <= result["answers"].keys() else None

    @property
    def found(self) -> dict[str, Any] | None:
        """The content of result.json, if there is one; an earlier command with fewer rows has fewer evaluations.

        Raises:
            UserError: the result was made with other settings, or a field of it is wrong.
        """
        file = self.folder / RESULT
        if not file.exists():
            return None
        read_fields(TrialResult, file, FIX)
        result: Any = read_json(file)
        if result["config"] != self.config.model_dump(mode="json"):
            raise UserError(
                f"{file}: was made with other settings", "name another folder with --out, or remove this one"
            )
        return result


@dataclass(frozen=True)
class Work:
    """A trial after training, with everything that the evaluations need."""

    trial: Trial
    run: RunFolder
    checkpoint: Checkpoint
    puzzle_set: PuzzleSet
    tasks: list[Task]


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train a trial, evaluate it and write result.json; returns its content. Existing evaluations are kept."""
    if complete_result := trial.result:
        return complete_result
    started = time.monotonic()
    sources = load_sources(trial.config)
    # Closed here: Python's cleanup at the end of a process does not include a pool's worker.
    with closing(RunFolder(trial.folder, trial.config)) as run:
        run.screen = Screen(quiet=True)
        return _run(trial, run, sources, started)


def _run(trial: Trial, run: RunFolder, sources: list[SourcedTasks], started: float) -> dict[str, Any]:
    """Do what a trial lacks; `started` is when it was started (monotonic)."""
    config = trial.config
    puzzle_set = build(config, sources, run)
    checkpoint = train(config, puzzle_set, run, Budget(None))
    work = Work(trial, run, checkpoint, puzzle_set, list(sources[0].tasks))
    previous: dict[str, Any] = result["answers"] if (result := trial.found) else {}
    answers = previous | {str(ask): _evaluate(work, ask) for ask in trial.ask if str(ask) not in previous}
    metrics = read_metrics(run.path)
    result = {
        "config": config.model_dump(mode="json"),
        "versions": read_versions(run.path)
        | {"threads": torch.get_num_threads(), "device": str(join_process_group().device)},
        "data": _describe_data(work),
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


def _describe_data(work: Work) -> dict[str, Any]:
    """Return the source, number of tasks and trained pairs, and measures of difficulty of logic puzzles."""
    trained = sum(len(work.puzzle_set.training_pairs(number)) for number in range(len(work.puzzle_set.tasks)))
    facts: dict[str, Any] = {"source": work.trial.config.source, "tasks": len(work.tasks), "trained pairs": trained}
    if work.trial.config.train.symmetry != "none":
        facts |= {name: round(value, 2) for name, value in describe_logic_puzzles(work.tasks[0]).items()}
    return facts


def _exact(work: Work) -> dict[str, Any]:
    """Evaluate exact match by supervision step."""
    device = join_process_group().device
    config = work.trial.config
    right = exact_match(work.checkpoint, work.puzzle_set, work.tasks, device, work.trial.steps)
    return _by_step(right, config)


def _on_side(side: int, work: Work) -> dict[str, Any]:
    """Evaluate exact match by supervision step on generated Sudokus of another side."""
    device = join_process_group().device
    right = match_on_side(work.checkpoint, work.tasks[0], side, device, work.trial.steps)
    return _by_step(right, work.trial.config)


def _by_step(right: NDArray[np.bool_], config: RunConfig) -> dict[str, Any]:
    """Return an evaluation of exact matches (tests, steps); its value is after as many steps as in training."""
    value = float(right[:, min(config.model.max_steps, right.shape[1]) - 1].mean())
    return {"value": value, "steps": right.mean(0).round(6).tolist(), "right": _pack(right)}


def _voted(work: Work, settings: PredictSettings, checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Predict into the folder `name` of the run and vote; returns macro pass@2 and which test outputs are solved."""
    folder = work.run.path / name
    predictions = predict(checkpoint, work.puzzle_set, settings, folder, work.run)
    ballot = vote(predictions, work.tasks, settings.ranker)
    ranks = submission_ranks(make_submission(ballot, work.tasks), work.tasks, work.trial.config.source)
    right = np.concatenate(ranks) <= ATTEMPTS
    return {"value": measure_macro(ranks, ATTEMPTS), "right": _pack(right[:, None])}


def _votes(work: Work) -> dict[str, Any]:
    return _voted(work, work.trial.config.predict, work.checkpoint, "predictions")


def _one_view(work: Work) -> dict[str, Any]:
    """Evaluate predictions of each task's original only, without augmentations."""
    settings = work.trial.config.predict.model_copy(update={"augmentations": 0})
    return _voted(work, settings, work.checkpoint, "predictions_one_view")


def _blank(work: Work) -> dict[str, Any]:
    """Evaluate with all puzzle embeddings set to zero, their value before training."""
    blank = replace(work.checkpoint, id_rows=torch.zeros_like(work.checkpoint.id_rows))
    return _voted(work, work.trial.config.predict, blank, "predictions_blank")


def _shuffled(work: Work) -> dict[str, Any]:
    """Evaluate with the puzzle embeddings randomly permuted among the puzzles."""
    rows = work.checkpoint.id_rows
    order = np.random.Generator(np.random.Philox(work.trial.seed)).permutation(len(rows))
    shuffled = replace(work.checkpoint, id_rows=rows[order])
    return _voted(work, work.trial.config.predict, shuffled, "predictions_shuffled")


ASK: dict[Way, Callable[[Work], dict[str, Any]]] = {
    "exact": _exact,
    "votes": _votes,
    "one view": _one_view,
    "blank IDs": _blank,
    "shuffled IDs": _shuffled,
    "4x4": partial(_on_side, 4),
    "6x6": partial(_on_side, 6),
}


def _evaluate(work: Work, ask: Ask) -> dict[str, Any]:
    return _evaluate_wide(work, ask) if isinstance(ask, Wide) else ASK[ask](work)


def _evaluate_wide(work: Work, ask: Wide) -> dict[str, Any]:
    """Evaluate the vote of several trajectories; the value is pass@1 of logic puzzles and pass@2 of ARC tasks.

    "more" has both figures, and the share of all solutions that are among the candidates. "compute" is the number of
    supervision steps, relative to one trajectory of the usual depth.
    """
    config = work.trial.config
    arc = work.trial.config.train.symmetry == "none"
    steps = ask.deeper * (config.predict.steps or config.model.max_steps)
    changes: dict[str, Any] = {"trajectories": ask.trajectories, "noise": ask.noise, "steps": steps}
    changes["ranker"] = ask.ranker
    if join_process_group().device.type == "cpu":
        changes["batch_size"] = config.predict.batch_size or SMALL_BOARDS
    predictions = predict(
        work.checkpoint,
        work.puzzle_set,
        config.predict.model_copy(update=changes),
        work.run.path / f"predictions {ask.made}".replace(" ", "_"),
        work.run,
    )
    ballot = vote(predictions, work.tasks, ask.ranker)
    scores = []
    for task in work.tasks:
        scores.append([_score_candidates(task, test, candidates) for test, candidates in enumerate(ballot[task.id])])
    first, second, shares = (_macro(scores, part) for part in range(3))
    solved = [[score[1 if arc else 0]] for task in scores for score in task]
    return {
        "value": second if arc else first,
        "more": {"pass@1": first, "pass@2": second, "coverage": shares},
        "compute": ask.deeper * ask.trajectories,
        "right": _pack(np.array(solved, bool)),
    }


def _score_candidates(task: Task, test: int, candidates: Sequence[Candidate]) -> tuple[bool, bool, float]:
    """Score the ranked candidates of a test input.

    Returns:
        Whether the first candidate is right, whether one of the first two is, and the share of all solutions that are
        among the candidates.
    """
    pair = task.tests[test]
    assert pair.output is not None
    # An N-Queens input can have several solutions, each of which is right; all other tests have one.
    solutions = complete(pair.input) if is_queens(task) else [pair.output]
    ranks = [find_candidate(solution, candidates) for solution in solutions]
    return min(ranks) <= 1, min(ranks) <= ATTEMPTS, sum(rank != NOT_FOUND for rank in ranks) / len(solutions)


def _macro(scores: list[list[tuple[bool, bool, float]]], part: int) -> float:
    return float(np.mean([np.mean([score[part] for score in task]) for task in scores]))


def _pack(right: NDArray[np.bool_]) -> list[str]:
    """Encode a boolean array (tests, steps) as one string of 0 and 1 for each step."""
    return ["".join("01"[int(value)] for value in step) for step in right.T]


def unpack(answer: dict[str, Any], step: int = -1) -> NDArray[np.bool_]:
    """Return which test inputs of an evaluation are right after a supervision step, by default the last."""
    return np.array([digit == "1" for digit in answer["right"][step]])
