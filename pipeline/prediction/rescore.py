"""Scores the best candidates by the model's log-probability under every augmentation; adds the scores to predictions.

A product of experts ranks by these scores (Franzen et al. 2025). Each candidate of a test input is rendered under every
augmentation, on the canvas that it was predicted on. Its score is the sum of the log-probabilities that the model gives
its cells and end marks. The model runs once for each test input and augmentation, with all supervision steps and
without halting or noise, for any number of candidates. Work is shared and saved as in `pipeline.prediction.predict`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from augment import PuzzleSet
from augment.errors import UserError
from pipeline.checkpoints.checkpoint import Checkpoint, fingerprint
from pipeline.checkpoints.compilation import explain_compilation
from pipeline.config.run_config import PredictSettings
from pipeline.prediction.predict import make_predictor, open_batch_size
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.shards import Shards
from pipeline.prediction.workload import Queries
from pipeline.runtime.console import Console
from pipeline.runtime.distributed import join_process_group
from solver.data.likelihood import score_grids
from solver.training.deep_supervision import last_output
from solver.training.loss import log_probabilities
from submissions.grid_table import Grids, collect_grids
from submissions.prediction_files import ANSWERS_FILE, add_scores, read_predictions
from submissions.predictions import Predictions, ScoreRows, Shard
from submissions.vote import vote


@dataclass(frozen=True, eq=False)
class Candidates:
    """The best grids of each test input.

    Attributes:
        grids: all candidate grids.
        numbers: their numbers in `grids`, by (position among the scored tasks, number of the test input).
    """

    grids: Grids
    numbers: dict[tuple[int, int], NDArray[np.int32]]


@explain_compilation()
def rescore(trained: Checkpoint, puzzle_set: PuzzleSet, settings: PredictSettings, folder: Path, run: Console) -> None:
    """Add scores to the predictions in `folder`, for the `settings.rescore` candidates with most votes per test input.

    Raises:
        UserError: if the predictions were made with another checkpoint or puzzle set.
    """
    processes = join_process_group()
    predictions = read_predictions(folder)
    made_from = check_origin(predictions, trained, puzzle_set, folder)
    path = folder.with_name(f"{folder.name}.scores.parts")
    predictor = make_predictor(trained, puzzle_set, _plain(settings, made_from), processes, run)
    tasks = predictor.questions.tasks
    candidates = find_candidates(predictions, puzzle_set, tasks, settings.rescore)
    if processes.any(processes.index == 0 and _are_scored(predictions, tasks, candidates)):
        run.log(f"its candidates were already rescored: {folder}")
    else:
        queries = _make_queries(predictor, predictions, candidates)
        with (folder / ANSWERS_FILE).open("rb") as file:
            answers = file_digest(file, "sha256").hexdigest()
        # The scores depend on the predictions too, as these determine the candidates.
        inputs = {"weights": made_from["weights"], "answers": answers, "candidates": settings.rescore}
        parts = Shards(path, ScoreRows, tasks, inputs, processes, run)
        memory = open_batch_size(predictor, queries, parts, settings.batch_size)
        scorer = Scorer(predictor, candidates)
        sizes = {number: len(rows) for number, rows in enumerate(queries)}

        def make(number: int, report: Callable[[int], None]) -> Shard:
            return predictor.work_through(queries[number], memory, scorer.compute, scorer.finish, report)

        parts.make("rescore", sizes, make)
        if processes.index == 0:
            add_scores(folder, parts.read(range(len(queries))), tasks)
    if processes.index == 0:
        shutil.rmtree(path, ignore_errors=True)
    processes.wait()


def check_origin(predictions: Predictions, trained: Checkpoint, puzzle_set: PuzzleSet, folder: Path) -> dict:
    """Return the record of the inputs that the predictions were made from (their metadata's "made_from").

    Raises:
        UserError: if these are not this checkpoint and this puzzle set.
    """
    made_from = predictions.metadata.get("made_from", {})
    digests = {"weights": fingerprint(trained), "puzzle_set": puzzle_set.digest}
    differences = [name.replace("_", " ") for name, digest in digests.items() if made_from.get(name) != digest]
    if differences:
        raise UserError(
            f"{folder}: was predicted with other {' and another '.join(differences)}",
            "rescore it with the --checkpoint and --puzzles that it was predicted with",
        )
    return made_from


def _plain(settings: PredictSettings, made_from: dict) -> PredictSettings:
    """Return the settings for scoring: those of the predictions, but with one trajectory and no noise.

    Temperature 0 replaces the learned noise of a recursion by its mean.
    """
    fixed = {"augmentations": made_from["augmentations"], "steps": made_from["steps"]}
    return PredictSettings(**fixed, batch_size=settings.batch_size, temperature=0)


def find_candidates(predictions: Predictions, puzzle_set: PuzzleSet, tasks: tuple[str, ...], most: int) -> Candidates:
    """Return the `most` grids of each test input that have the most votes."""
    votes = vote(predictions, [task for task in puzzle_set.tasks if task.id in set(tasks)])
    best = {
        (tasks.index(task), test): [candidate.grid for candidate in ranked[:most]]
        for task, inputs in votes.items()
        for test, ranked in enumerate(inputs)
        if ranked
    }
    grids, numbers = collect_grids(grid for ranked in best.values() for grid in ranked)
    ends = np.cumsum([len(ranked) for ranked in best.values()], dtype=np.int64)
    return Candidates(grids, dict(zip(best, np.split(numbers, ends)[:-1], strict=True)))


def _are_scored(predictions: Predictions, tasks: tuple[str, ...], candidates: Candidates) -> bool:
    """Return whether all candidates have scores."""
    scores = predictions.scores
    if scores is None:
        return False
    names = [predictions.tasks[place] for place in scores.task.tolist()]
    ids = predictions.grids.ids[scores.grid]
    scored = set(zip(names, scores.test.tolist(), ids.tolist(), strict=True))
    return all(
        (tasks[place], test, grid) in scored
        for (place, test), numbers in candidates.numbers.items()
        for grid in candidates.grids.ids[numbers].tolist()
    )


def _make_queries(predictor: Predictor, predictions: Predictions, candidates: Candidates) -> list[Queries]:
    """Return the queries for test inputs with candidates, on the canvas or board that they were predicted on."""
    answers = predictions.answers.take(predictions.answers.board)
    tasks = predictor.questions.tasks
    places = [tasks.index(predictions.tasks[place]) for place in answers.task.tolist()]
    boards = set(zip(places, answers.test.tolist(), strict=True)) & candidates.numbers.keys()
    questions = predictor.questions
    return [
        *questions.ask_for(candidates.numbers.keys() - boards, board=False),
        *questions.ask_for(boards, board=True),
    ]


class Scorer:
    """Scores all candidates of a row with one run of the model."""

    def __init__(self, predictor: Predictor, candidates: Candidates):
        self.predictor = predictor
        self.candidates = candidates

    def compute(self, asked: Queries) -> tuple[Queries, NDArray[np.float32]]:
        """Compute on the device the log-probability of every token at every cell, (n, cells, vocabulary)."""
        predictor = self.predictor
        logits_BCV = last_output(predictor.outputs(asked, predictor.render(asked), predictor.steps)).logits_BCV
        tokens_BCV = torch.arange(logits_BCV.shape[2], device=logits_BCV.device).expand(logits_BCV.shape)
        return asked, log_probabilities(logits_BCV, tokens_BCV, predictor.model.loss).float().cpu().numpy()

    def finish(self, computed: tuple[Queries, NDArray[np.float32]]) -> Shard:
        """Compute on the CPU a score for each row and candidate."""
        queries, log_probs = computed
        questions = self.predictor.questions
        examples = questions.examples_of(queries)
        grids = self.candidates.grids
        tasks, tests = questions.inputs_of(queries.puzzles, queries.pairs)
        ranked = [self.candidates.numbers[key] for key in zip(tasks.tolist(), tests.tolist(), strict=True)]
        rows = np.repeat(np.arange(len(queries)), [len(grid_numbers) for grid_numbers in ranked])
        numbers = np.concatenate(ranked)
        puzzles = queries.puzzles
        sums = score_grids(
            log_probs, examples.canvas_sizes(puzzles), examples.dihedrals[puzzles], examples.colours[puzzles],
            rows, grids.heights[numbers], grids.widths[numbers], grids.starts[numbers], grids.cells,
        )  # fmt: skip
        augmentations = questions.puzzle_set.augmentations[puzzles]
        scores = ScoreRows(
            tasks[rows].astype(np.int32), tests[rows].astype(np.int32), augmentations[rows], numbers,
            sums.astype(np.float32),
        )  # fmt: skip
        return Shard(scores, grids)
