"""Checkpoint in, predictions out: the third stage of a run.

Every test input is answered under every augmentation of the set, at all supervision steps without halting, with
averaged weights; each answer is taken back to the task's own frame. Any number of processes share the work and give the
same answers. What is done is written as it goes (`pipeline.prediction.shards`), and a stage that was killed goes on
with the rest.
"""

import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment import PuzzleSet
from augment.errors import DamagedError, UserError
from pipeline.checkpoints.checkpoint import Checkpoint, fingerprint
from pipeline.checkpoints.load_model import load_model, prepare_model
from pipeline.config.run_config import PredictSettings
from pipeline.prediction.batch_size import CPU_BOARDS, BatchSize, find_boards
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.shards import Shards, shards_folder
from pipeline.prediction.workload import Queries, Workload, make_questions
from pipeline.runtime.console import Console
from pipeline.runtime.distributed import LaunchedProcesses, join_process_group
from submissions.prediction_files import join_shards, read_predictions
from submissions.predictions import NO_GRID, PredictionRows, Predictions

MOST_CUT_OFF = 0.25
FEW_INPUTS = 8
"""Where more test inputs than this share (and more than these few) look cut off, their canvases are not to blame."""

PredictAll = Callable[[Predictor, Shards, PredictSettings], tuple[range, dict[str, list[int]]]]
"""Has all parts made; returns their numbers, and the test inputs that were asked again by task ID."""


def predict(
    trained: Checkpoint,
    puzzle_set: PuzzleSet,
    settings: PredictSettings,
    folder: Path,
    run: Console,
    until: float = math.inf,
    **about: str,
) -> Predictions:
    """Answer every test input of the set; the answers are returned and written to `folder`.

    `until`, of the monotonic clock: nothing is asked again that would not be done by then.

    Answers of this checkpoint by these settings that are there already are returned as they are; others are replaced.

    Raises:
        ValueError: where a puzzle has no trained ID row: an untrained one would only give wrong answers.
    """
    made_from = identify(trained, puzzle_set, settings)
    answer = partial(predict_all, until=until)
    return make_predictions(trained, puzzle_set, settings, folder, run, about, made_from, answer)


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
    """`predict`, in any way: `answer` has all parts made, and `made_from` is what decides what is in them."""
    processes = join_process_group()
    parts_path = shards_folder(folder)
    if processes.any(processes.index == 0 and _is_made(folder, made_from, run)):
        run.log(f"predictions were already made: {folder}")
    else:
        metadata = {**about, **_origin(puzzle_set), **find_trained_on(trained, puzzle_set), "step": trained.step}
        predictor = make_predictor(trained, puzzle_set, settings, processes, run)
        parts = Shards(parts_path, PredictionRows, predictor.questions.tasks, made_from, processes, run)
        numbers, again = answer(predictor, parts, settings)
        processes.wait()  # every process may have read parts to find what is asked again: nobody removes them before
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
    """The checkpoint's model on this process's device, and what it is asked."""
    config = trained.run_config
    if settings.noise and config.model.recursion.carry == "reset":
        raise UserError(
            "predict.noise: this model begins every supervision step from its start (recursion.carry is reset), so "
            "noise on what it carries changes nothing",
            "set it to 0, and predict.trajectories to 1",
        )
    model, table = load_model(trained, puzzle_set)
    said = prepare_model(model, table, config.train, processes.device)
    run.log(f"predicting in {said}, processes: {processes.count}")
    questions = make_questions(config, puzzle_set, settings)
    chance = settings.noise, config.seed, settings.temperature
    return Predictor(model, table, questions, settings.steps, settings.record, *chance)


def predict_all(
    predictor: Predictor, parts: Shards, settings: PredictSettings, until: float = math.inf
) -> tuple[range, dict[str, list[int]]]:
    """Have all parts made; returns their numbers, and the test inputs that were asked again by task ID."""
    questions = predictor.questions
    begun = time.monotonic()
    asked = questions.ask_all()
    again = {}
    memory = start_memory(predictor, asked, parts, settings.batch_size)
    _make(predictor, parts, memory, "predict", dict(enumerate(asked)))
    if settings.second_pass and questions.may_be_cut_off():
        cut_off = _if_few(find_cut_off(parts, range(len(asked))), questions, parts.run)
        more = questions.ask_for(cut_off, board=True)
        share = _cells(predictor, more) / max(1, _cells(predictor, asked))
        late = time.monotonic() + share * (time.monotonic() - begun) > until
        if more and parts.processes.any(late):
            parts.run.log(f"{len(cut_off)} test inputs may have outputs larger than their canvas: no time to ask again")
        elif more:
            for place, test in sorted(cut_off):
                again.setdefault(questions.tasks[place], []).append(test)
            parts.run.log(f"{len(cut_off)} test inputs may have outputs larger than their canvas: asked on the board")
            _make(predictor, parts, memory, "second pass", dict(enumerate(more, len(asked))))
            asked = [*asked, *more]
    return range(len(asked)), again


def _cells(predictor: Predictor, parts: list[Queries]) -> int:
    """All that is computed for these parts."""
    return sum(len(part) * (predictor.model.config.id_slots + predictor.width(part)) for part in parts)


def _if_few(cut_off: set[tuple[int, int]], questions: Workload, run: Console) -> set[tuple[int, int]]:
    """The test inputs to ask again; none where they are too many for that to be the reason."""
    total = len(set(questions.inputs))
    if len(cut_off) <= max(FEW_INPUTS, MOST_CUT_OFF * total):
        return cut_off
    run.log(
        f"{len(cut_off)} of {total} test inputs have answers without end marks: the model has not learnt to draw them, "
        "so none is asked again on the whole board"
    )
    return set()


def start_memory(predictor: Predictor, asked: list[Queries], parts: Shards, batch_size: int | None) -> BatchSize:
    """Open the parts, and find or read how much to compute at once."""
    config = predictor.model.config
    board = config.id_slots + config.cells
    most = max((len(each) * (config.id_slots + predictor.width(each)) for each in asked), default=0) // board + 1

    def find() -> int:
        if not asked:
            return CPU_BOARDS
        return find_boards(parts.processes.device, most, lambda boards: predictor.try_boards(asked[0], boards))

    boards = parts.open(find, batch_size)
    parts.run.log(f"at once: the cells of {boards} full boards, in {len(asked)} parts")
    return BatchSize(config, boards, parts.run.log)


def _make(predictor: Predictor, parts: Shards, memory: BatchSize, name: str, asked: dict[int, Queries]) -> None:
    """Have these parts made, by number."""
    sizes = {number: len(rows) for number, rows in asked.items()}
    parts.make(name, sizes, lambda number, report: predictor.answer(asked[number], memory, report))


def find_cut_off(parts: Shards, numbers: range) -> set[tuple[int, int]]:
    """(place of the task, test) of test inputs that at least half of the answers are perhaps cut off of.

    Of the last supervision step, and of the answers that are grids: those that reach the canvas' edge without an end
    mark, so that a larger output may have been meant.
    """
    counts: dict[tuple[int, int], NDArray[np.int64]] = {}
    for part in parts.read(numbers):
        assert isinstance(part.rows, PredictionRows)
        rows = part.rows.take(part.rows.last & (part.rows.grid != NO_GRID))
        for task, test, edge in zip(rows.task.tolist(), rows.test.tolist(), rows.edge.tolist(), strict=True):
            counts[task, test] = counts.get((task, test), 0) + np.array([1, edge])
    return {asked for asked, (grids, edges) in counts.items() if 2 * edges >= grids}


def identify(trained: Checkpoint, puzzle_set: PuzzleSet, settings: PredictSettings) -> dict[str, Any]:
    """What decides the answers, but for rounding: the weights, the puzzles and the settings."""
    deciding = ("augmentations", "steps", "record", "trajectories", "noise", "temperature", "second_pass")
    config = trained.run_config
    return {
        "weights": fingerprint(trained),
        "puzzle_set": puzzle_set.digest,
        "seed": config.seed if settings.noise or config.model.recursion.noisy else None,
        **{name: getattr(settings, name) for name in deciding},
    }


def _is_made(folder: Path, made_from: dict[str, Any], run: Console) -> bool:
    """Whether the folder holds these very answers; damaged ones are made again."""
    if not folder.exists():
        return False
    try:
        return read_predictions(folder).metadata.get("made_from") == made_from
    except DamagedError as error:
        run.warn(f"{error.summary}; it is made again")
        return False


def _origin(puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Every task of each scored source that the set holds, predicted or not."""
    asked: dict[str, list[str]] = {}
    for task, role, source in zip(puzzle_set.tasks, puzzle_set.roles, puzzle_set.sources, strict=True):
        if role == "scored":
            asked.setdefault(source, []).append(task.id)
    if not asked:
        raise UserError("the puzzle set has no scored task, so there is nothing to predict", "build it with --score")
    return {"sources": asked}


def find_trained_on(checkpoint: Checkpoint, puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Scored tasks that the checkpoint was trained on with their test outputs; and whether that is all known."""
    scored = [task for task, role in zip(puzzle_set.tasks, puzzle_set.roles, strict=True) if role == "scored"]
    found = {held.task for held in checkpoint.seen.find_all(scored)} | {leak.task for leak in checkpoint.leaks}
    return {"trained_on": sorted(found), "training_known": checkpoint.seen.complete}
