"""Predicts every test input of a puzzle set with a checkpoint's averaged weights: the third stage of a run.

Every test input is predicted under every augmentation of the set, with all supervision steps and without halting. Each
prediction is transformed back to the task's own frame. Any number of processes share the work and give the same
predictions. Finished parts are saved (`pipeline.prediction.shards`), and a stage that was killed resumes with the rest.
"""

import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from augment import PuzzleSet
from augment.errors import DamagedError, UserError
from pipeline.checkpoints.checkpoint import Checkpoint, fingerprint
from pipeline.checkpoints.compilation import explain_compilation
from pipeline.checkpoints.load_model import load_model, prepare_model
from pipeline.config.run_config import PredictSettings
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.shards import Shards, shards_folder
from pipeline.prediction.workload import Queries, Workload, make_questions
from pipeline.runtime.console import Console
from pipeline.runtime.distributed import LaunchedProcesses, join_process_group
from pipeline.training.batch_size import CPU_BOARDS, BatchSize, find_boards, largest_size
from pipeline.training.size_limits import check_prediction
from solver.training.device_memory import open_memory
from submissions.prediction_files import join_shards, read_predictions
from submissions.predictions import NO_GRID, PredictionRows, Predictions

MOST_CUT_OFF = 0.25
FEW_INPUTS = 8
"""If more test inputs than this share, and more than this number, seem cut off, the reason is not their canvases."""

PredictAll = Callable[[Predictor, Shards, PredictSettings], tuple[range, dict[str, list[int]]]]
"""Makes all parts; returns their numbers, and the test inputs of the second pass by task ID."""


@explain_compilation()
def predict(
    trained: Checkpoint,
    puzzle_set: PuzzleSet,
    settings: PredictSettings,
    folder: Path,
    run: Console,
    until: float = math.inf,
    **about: str,
) -> Predictions:
    """Predict every test input of the set, and write the predictions to `folder`.

    Existing predictions of the same checkpoint, puzzle set and settings are returned unchanged; others are replaced.

    Args:
        trained: the checkpoint.
        puzzle_set: the puzzles to predict.
        settings: how to predict them.
        folder: the predictions folder.
        run: where progress is shown.
        until: time of the monotonic clock; the second pass is left out if it would end later.
        about: further entries of the predictions' metadata.

    Raises:
        UserError: if a puzzle has no trained ID row, as an untrained one would only give wrong predictions.
    """
    made_from = identify(trained, puzzle_set, settings)
    predict_parts = partial(predict_all, until=until)
    return make_predictions(trained, puzzle_set, settings, folder, run, about, made_from, predict_parts)


def make_predictions(
    trained: Checkpoint,
    puzzle_set: PuzzleSet,
    settings: PredictSettings,
    folder: Path,
    run: Console,
    about: dict[str, str],
    made_from: dict[str, Any],
    answer: PredictAll,
) -> Predictions:
    """Make predictions as `predict` does, with any way of computing the parts.

    Args:
        trained, puzzle_set, settings, folder, run: as for `predict`.
        about: further entries of the predictions' metadata.
        made_from: the inputs that determine the predictions; existing ones are used if theirs are equal.
        answer: makes all parts.
    """
    processes = join_process_group()
    parts_path = shards_folder(folder)
    if processes.any(processes.index == 0 and are_made(folder, made_from, run.warn)):
        run.log(f"predictions were already made: {folder}")
    else:
        metadata = {**about, **_origin(puzzle_set), **find_trained_on(trained, puzzle_set), "step": trained.step}
        predictor = make_predictor(trained, puzzle_set, settings, processes, run)
        parts = Shards(parts_path, PredictionRows, predictor.questions.tasks, made_from, processes, run)
        numbers, again = answer(predictor, parts, settings)
        processes.wait()  # a process may still read parts for its second pass; they are removed only after this
        if processes.index == 0:
            metadata |= {"supervision_steps": predictor.steps, "second_pass": again, "made_from": made_from}
            metadata |= {name: getattr(settings, name) for name in ("record", "trajectories", "noise", "temperature")}
            metadata["augmentations"] = (
                puzzle_set.requested if settings.augmentations is None else settings.augmentations
            )
            join_shards(folder, parts.read(numbers), parts.tasks, metadata, replace=True)
    if processes.index == 0:
        shutil.rmtree(parts_path, ignore_errors=True)
    processes.wait()
    return read_predictions(folder)


def make_predictor(
    trained: Checkpoint, puzzle_set: PuzzleSet, settings: PredictSettings, processes: LaunchedProcesses, run: Console
) -> Predictor:
    """Load the checkpoint's model onto this process's device, and prepare the workload.

    Raises:
        UserError: if predict.noise is set for a model on which it has no effect.
    """
    config = trained.run_config
    if settings.noise and config.model.recursion.carry == "reset":
        raise UserError(
            "predict.noise: this model resets its latents at every supervision step (recursion.carry is reset), so "
            "noise on carried latents has no effect",
            "set it to 0, and predict.trajectories to 1",
        )
    check_prediction(config.model_copy(update={"predict": settings}), puzzle_set)
    model, table = load_model(trained, puzzle_set)
    description = prepare_model(model, table, config.train, processes.device, run)
    run.log(f"predicting in {description}, processes: {processes.count}")
    questions = make_questions(config, puzzle_set, settings)
    noise_settings = (settings.noise, config.seed, settings.temperature)
    return Predictor(model, table, questions, settings.steps, settings.record, *noise_settings)


def predict_all(
    predictor: Predictor, parts: Shards, settings: PredictSettings, until: float = math.inf
) -> tuple[range, dict[str, list[int]]]:
    """Make all parts, and a second pass on the whole board for test inputs whose outputs seem cut off by their canvas.

    Returns:
        The numbers of all parts, and the test inputs of the second pass by task ID.
    """
    questions = predictor.questions
    start = time.monotonic()
    queries = questions.ask_all()
    repeated = {}
    memory = open_batch_size(predictor, queries, parts, settings.batch_size)
    _make(predictor, parts, memory, "predict", dict(enumerate(queries)))
    if settings.second_pass and questions.may_be_cut_off():
        cut_off = _if_few(find_cut_off(parts, range(len(queries))), questions, parts.run)
        more = questions.ask_for(cut_off, board=True)
        # The time of the second pass is estimated from that of the first, in proportion to the positions.
        share = _count_positions(predictor, more) / max(1, _count_positions(predictor, queries))
        late = time.monotonic() + share * (time.monotonic() - start) > until
        larger = f"{len(cut_off)} test inputs may have outputs larger than their canvas"
        if more and parts.processes.any(late):
            parts.run.log(f"{larger}: no time is left for a second pass")
        elif more:
            for place, test in sorted(cut_off):
                repeated.setdefault(questions.tasks[place], []).append(test)
            parts.run.log(f"{larger}: predicted again on the whole board")
            _make(predictor, parts, memory, "second pass", dict(enumerate(more, len(queries))))
            queries = [*queries, *more]
    return range(len(queries)), repeated


def _count_positions(predictor: Predictor, parts: list[Queries]) -> int:
    """Return the number of positions that are computed for these parts, padding included."""
    return sum(len(part) * (predictor.model.config.id_slots + predictor.width(part)) for part in parts)


def _if_few(cut_off: set[tuple[int, int]], questions: Workload, run: Console) -> set[tuple[int, int]]:
    """Return the test inputs to predict again; none if there are too many for small canvases to be the reason."""
    total = len(set(questions.inputs))
    if len(cut_off) <= max(FEW_INPUTS, MOST_CUT_OFF * total):
        return cut_off
    run.log(
        f"{len(cut_off)} of {total} test inputs have predictions without end marks: the model has not learnt to draw "
        "them, so none is predicted again on the whole board"
    )
    return set()


def choose_boards(predictor: Predictor, asked: list[Queries], device: torch.device) -> int:
    """Return how many boards to compute at once on a device; the first part is used to try batch sizes."""
    if not asked:
        return CPU_BOARDS
    config = predictor.model.config
    board = config.id_slots + config.cells
    # No part needs a larger batch than this, so larger ones are not tried.
    most = max(len(rows) * (config.id_slots + predictor.width(rows)) for rows in asked) // board + 1
    largest = largest_size(config, device)
    return find_boards(open_memory(device), most, largest, lambda boards: predictor.try_boards(asked[0], boards))


def open_batch_size(predictor: Predictor, asked: list[Queries], parts: Shards, batch_size: int | None) -> BatchSize:
    """Open the folder of the parts, and choose or read the number of boards to compute at once.

    Args:
        predictor: the model.
        asked: the parts.
        parts: opened here.
        batch_size: a fixed number of boards, None to choose it.
    """
    config = predictor.model.config
    device = parts.processes.device
    boards = parts.open(lambda: choose_boards(predictor, asked, device), batch_size)
    batches = BatchSize(config, boards, parts.run.log, device)
    parts.run.log(
        f"batch size: the cells of {batches.most // (config.id_slots + config.cells)} full boards; {len(asked)} parts"
    )
    return batches


def _make(predictor: Predictor, parts: Shards, memory: BatchSize, name: str, queries: dict[int, Queries]) -> None:
    """Make the parts with these numbers."""
    sizes = {number: len(rows) for number, rows in queries.items()}
    parts.make(name, sizes, lambda number, report: predictor.answer(queries[number], memory, report))


def find_cut_off(parts: Shards, numbers: range) -> set[tuple[int, int]]:
    """Find the test inputs for which at least half of the predictions may be cut off by the canvas.

    A prediction may be cut off if it reaches the edge of the canvas without an end mark. Only predictions of the last
    supervision step that are grids are counted.

    Returns:
        (position among the scored tasks, number of the test input) of each.
    """
    counts: dict[tuple[int, int], NDArray[np.int64]] = {}
    for part in parts.read(numbers):
        assert isinstance(part.rows, PredictionRows)
        rows = part.rows.take(part.rows.last & (part.rows.grid != NO_GRID))
        for task, test, edge in zip(rows.task.tolist(), rows.test.tolist(), rows.edge.tolist(), strict=True):
            counts[task, test] = counts.get((task, test), 0) + np.array([1, edge])
    return {test_input for test_input, (grids, edges) in counts.items() if 2 * edges >= grids}


def identify(trained: Checkpoint, puzzle_set: PuzzleSet, settings: PredictSettings) -> dict[str, Any]:
    """Return the inputs that determine the predictions up to rounding: digests of weights and puzzles, and settings."""
    names = ("augmentations", "steps", "record", "trajectories", "noise", "temperature", "second_pass")
    config = trained.run_config
    return {
        "weights": fingerprint(trained),
        "puzzle_set": puzzle_set.digest,
        "seed": config.seed if settings.noise or config.model.recursion.noisy else None,
        **{name: getattr(settings, name) for name in names},
    }


def are_made(folder: Path, made_from: dict[str, Any], warn: Callable[[str], None] = lambda message: None) -> bool:
    """Return whether the folder has predictions of exactly these inputs; damaged ones count as missing."""
    if not folder.exists():
        return False
    try:
        return read_predictions(folder).metadata.get("made_from") == made_from
    except DamagedError as error:
        warn(f"{error.summary}; it is made again")
        return False


def _origin(puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Return the IDs of all scored tasks of the set by source, including tasks without predictions."""
    task_ids: dict[str, list[str]] = {}
    for task, role, source in zip(puzzle_set.tasks, puzzle_set.roles, puzzle_set.sources, strict=True):
        if role == "scored":
            task_ids.setdefault(source, []).append(task.id)
    if not task_ids:
        raise UserError("the puzzle set has no scored task, so there is nothing to predict", "build it with --score")
    return {"sources": task_ids}


def find_trained_on(checkpoint: Checkpoint, puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Find the scored tasks whose test outputs the checkpoint was trained on (contamination), as metadata entries.

    "training_known" is False if the checkpoint's training tasks are not all recorded. "related_looks" has the
    fingerprints with which a score finds test pairs that were trained on: the puzzle set has no test outputs.
    """
    scored = puzzle_set.tasks_of("scored")
    contaminated = {overlap.task for overlap in checkpoint.seen.find_all(scored)}
    contaminated |= {overlap.task for overlap in checkpoint.leaks}
    return {
        "trained_on": sorted(contaminated),
        "training_known": checkpoint.seen.complete,
        "related_looks": checkpoint.seen.related_looks(scored),
    }
