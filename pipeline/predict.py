"""Checkpoint in, predictions out: the third stage of a run.

Every test input is answered under every augmentation of the set, at all supervision steps without halting, with
averaged weights; each answer is taken back to the task's own frame.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augment import MAX_SIDE, PuzzleSet
from augment.puzzle import Augmentation
from pipeline.checkpoint import Checkpoint, match_rows
from pipeline.config import PredictSettings, RunConfig, build_config
from pipeline.launch import find_device
from pipeline.progress import Progress
from pipeline.rundir import Console
from pipeline.start import choose_precision, load_weights
from solver.batches import Examples, check_board
from solver.embedding import IdTable
from solver.model import RecursiveModel
from solver.supervision import last_output, predict_steps
from solver.tokens import decode
from submissions.prediction import Prediction, Predictions, read_predictions, write_predictions


def predict(
    trained: Checkpoint,
    puzzle_set: PuzzleSet,
    settings: PredictSettings,
    folder: Path,
    run: Console,
    **about: str,
) -> Predictions:
    """Answer every test input of the set; the answers are returned and written to `folder`.

    Raises:
        ValueError: where a puzzle has no trained ID row: an untrained one would only give wrong answers.
    """
    if folder.exists() and (made := read_predictions(folder)).metadata.get("step") == trained.step:
        run.log(f"predictions were already made: {folder}")
        return made
    predictor = Predictor(*load_model(trained, puzzle_set), puzzle_set, settings)
    rows: dict[int, Prediction] = {}
    with Progress(run, "predict", len(predictor.puzzles)) as progress:
        for places in predictor.batches():
            rows.update(zip(places.tolist(), predictor.answer(places), strict=True))
            progress.advance(len(places))
    metadata = {**about, **_origin(puzzle_set), **find_trained_on(trained, puzzle_set)}
    metadata |= {"step": trained.step, "supervision_steps": predictor.steps}
    predictions = Predictions(metadata, [rows[place] for place in range(len(rows))])
    write_predictions(folder, predictions, replace=True)  # those of an earlier step of the same training, if any
    return predictions


def _origin(puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Every task of each scored source that the set holds, predicted or not."""
    asked: dict[str, list[str]] = {}
    for task, role, source in zip(puzzle_set.tasks, puzzle_set.roles, puzzle_set.sources, strict=True):
        if role == "scored":
            asked.setdefault(source, []).append(task.id)
    if not asked:
        raise ValueError("the puzzle set has no scored task, so there is nothing to predict; build it with --score")
    return {"sources": asked}


def find_trained_on(checkpoint: Checkpoint, puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Scored tasks that the checkpoint was trained on with their test outputs; and whether that is all known."""
    scored = [task for task, role in zip(puzzle_set.tasks, puzzle_set.roles, strict=True) if role == "scored"]
    found = {held.task for held in checkpoint.seen.find_all(scored)} | {leak.task for leak in checkpoint.leaks}
    return {"trained_on": sorted(found), "training_known": checkpoint.seen.complete}


def load_model(checkpoint: Checkpoint, puzzle_set: PuzzleSet) -> tuple[RecursiveModel, IdTable]:
    """The checkpoint's model with averaged weights, and the ID rows of the set's puzzles."""
    table, matched = match_rows(checkpoint, puzzle_set.keys())
    if matched < len(puzzle_set):
        raise ValueError(
            f"{len(puzzle_set) - matched} of {len(puzzle_set)} puzzles have no ID row in the checkpoint: "
            "predict the puzzle set it was trained on, or train from it on this set first (--checkpoint)"
        )
    model = RecursiveModel(build_config(checkpoint.config).model)
    load_weights(model, checkpoint, "the checkpoint")
    return model, table


def seconds_needed(config: RunConfig, puzzle_set: PuzzleSet) -> float:
    """A cautious estimate of the time for all predictions, from two batches of an untrained model."""
    model, table = RecursiveModel(config.model), IdTable(len(puzzle_set), config.model.id_length)
    predictor = Predictor(model, table, puzzle_set, config.predict)
    fullest = max(predictor.batches(), key=len)
    for _ in range(2):  # the first compiles kernels
        start = time.monotonic()
        predictor.answer(fullest)
    cells = predictor.examples.widths(predictor.puzzles)
    return 2 + 1.2 * (time.monotonic() - start) * cells.sum() / cells[fullest].sum()


class Predictor:
    """A model over the test inputs of a puzzle set, under every augmentation that is asked for."""

    def __init__(self, model: RecursiveModel, table: IdTable, puzzle_set: PuzzleSet, settings: PredictSettings):
        self.device = find_device()
        model.precision = choose_precision("auto", self.device)
        self.model, self.table = model.to(self.device).eval(), table
        self.table.weights_PI = self.table.weights_PI.to(self.device)
        check_board(puzzle_set, model.config.board_side)
        self.examples = Examples(puzzle_set, model.config.canvas)
        most = None if settings.augmentations is None else settings.augmentations + 1
        self.puzzles, self.pairs = self.examples.test_inputs(most)
        self.batch_size, self.steps = settings.batch_size, settings.steps or model.config.max_steps

    def batches(self) -> list[np.ndarray]:
        """Places in `puzzles` and `pairs`, batch by batch, each of one width (`augment.canvas`), the widest first."""
        cells, widths = self.examples.canvas_sizes(self.puzzles).prod(axis=1), self.examples.widths(self.puzzles)
        order = np.argsort(-cells, kind="stable")
        return [
            places[start : start + self.batch_size]
            for places in np.split(order, np.flatnonzero(np.diff(widths[order])) + 1)
            for start in range(0, len(places), self.batch_size)
        ]

    def answer(self, places: np.ndarray) -> list[Prediction]:
        """The predictions at these places."""
        puzzles, pairs = self.puzzles[places], self.pairs[places]
        batch = self.examples.render(puzzles, pairs).to(self.device)
        output = last_output(predict_steps(self.model, self.table, batch, self.steps))
        tokens = output.logits_BCV.argmax(-1).to(torch.uint8).cpu().numpy()
        canvases = self.examples.canvas_sizes(puzzles)
        shown = zip(puzzles.tolist(), pairs.tolist(), tokens, canvases.tolist(), output.halt_B.tolist(), strict=True)
        return [self._take_back(*one) for one in shown]

    def _take_back(self, puzzle: int, pair: int, tokens: np.ndarray, canvas: list[int], halt: float) -> Prediction:
        """One answer as a grid in the task's own frame."""
        task = int(self.examples.tasks[puzzle])
        augmentation = Augmentation.from_number(int(self.examples.puzzle_set.augmentations[puzzle]))
        grid = decode(tokens[: canvas[0] * canvas[1]].reshape(canvas))
        first_test = int(self.examples.trained[task] + self.examples.held[task])
        undone = None if grid is None or max(grid.shape) > MAX_SIDE else augmentation.invert(grid)
        return Prediction(self.examples.puzzle_set.tasks[task].id, pair - first_test, augmentation.name, undone, halt)
