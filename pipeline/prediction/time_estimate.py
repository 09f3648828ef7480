"""Estimates the duration of prediction and of test-time training before training, with an untrained model."""

import math
import time
from dataclasses import dataclass

import torch

from augment import PuzzleSet
from pipeline.checkpoints.compilation import explain_compilation
from pipeline.checkpoints.id_table import new_table
from pipeline.checkpoints.load_model import prepare_model
from pipeline.config.run_config import RunConfig
from pipeline.prediction.predict import choose_boards
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.test_time_training import TaskTrainer, one_task_config
from pipeline.prediction.workload import Queries, Workload, make_questions
from pipeline.runtime.distributed import LaunchedProcesses, join_process_group
from pipeline.runtime.run_folder import RunFolder
from pipeline.training.batch_size import BatchSize
from pipeline.training.train import is_trained
from solver.model.model import RecursiveModel
from solver.training.device_memory import free_memory

SECOND_PASS_SHARE = 0.05
"""Share of the test inputs for which the estimate includes a second pass on the whole board. 2% of the public outputs
are larger than their task's canvas, and end marks are learnt early (the `cpu` recipe predicts none of 31 test inputs
again)."""
ROWS_TO_COMPILE = 8
"""Rows of the batch that compiles; compilers make code of its own for a single row."""
SECONDS_TO_START = {False: 2, True: 15}
"""Seconds on a CPU (False) and on CUDA (True) to start the process and load the checkpoint. Compiling and trying batch
sizes on CUDA are measured."""


@dataclass(frozen=True)
class TimeEstimate:
    """A cautious estimate of the time for all predictions of one model.

    Attributes:
        start: seconds that any number of predictions takes once: starting, compiling, trying batch sizes.
        work: seconds that grow with the number of predictions.
    """

    start: float
    work: float

    @property
    def total(self) -> float:
        """All seconds."""
        return self.start + self.work


def seconds_to_reserve(config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder) -> float:
    """Return the seconds of the budget to reserve for the predictions of one model.

    It is 0 without a budget, and where training is complete, as nothing needs to be reserved then.
    """
    if config.budget is None or (config.ensemble == 1 and is_trained(config, run)):
        return 0.0
    processes = join_process_group()
    prediction = estimate_prediction(config, puzzle_set, processes)
    return prediction.total + estimate_test_time_training(config, puzzle_set, processes)


def estimate_prediction(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> TimeEstimate:
    """Estimate the time for all predictions, from timed batches of an untrained model.

    On CUDA the model is compiled, and its batches are as large as the real ones. On a CPU it is not compiled.
    """
    estimate = _time_untrained(config, puzzle_set, processes)
    _free_untrained(processes.device)
    return estimate


def estimate_test_time_training(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> float:
    """Return a cautious estimate of the seconds for training on all tasks, without predicting them.

    It is measured with an untrained model, compiled as for `estimate_prediction`, and the batches of the real training.
    """
    one_task = one_task_config(config)
    if not one_task.train.steps:
        return 0.0
    first, total = _time_task_training(one_task, puzzle_set, processes)
    _free_untrained(processes.device)
    return first + 1.2 * total / processes.count


def _free_untrained(device: torch.device) -> None:
    """Release the memory of the untrained model on CUDA, before training measures what is free."""
    if device.type == "cuda":
        free_memory()


@explain_compilation()
def _time_task_training(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> tuple[float, float]:
    """Make the model and time it (`TaskTrainer.seconds`); it is gone when this returns."""
    questions = make_questions(config, puzzle_set, config.predict.model_copy(update={"augmentations": 0}))
    predictor = _make_predictor(config, questions, processes.device)
    batch_size = BatchSize(config.model, 1, lambda message: None, processes.device)
    return TaskTrainer(predictor, batch_size, config, lambda message: None).seconds(questions.ask_by_task())


@explain_compilation()
def _time_untrained(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> TimeEstimate:
    """Make the model and time it; it is gone when this returns.

    The work includes a second pass for SECOND_PASS_SHARE of the test inputs, and one more pass if candidates are
    rescored.
    """
    settings = config.predict
    cuda = processes.device.type == "cuda"
    questions = make_questions(config, puzzle_set, settings)
    begin = time.monotonic()
    predictor = _make_predictor(config, questions, processes.device)
    parts = questions.ask_all()
    boards = settings.batch_size or choose_boards(predictor, parts, processes.device)
    memory = BatchSize(config.model, boards, lambda message: None, processes.device)
    if cuda and parts:
        predictor.answer(parts[0].take(slice(0, ROWS_TO_COMPILE)), memory)
    prepared = time.monotonic() - begin if cuda else 0.0
    seconds = _seconds_for(predictor, parts, memory, cuda)
    if settings.second_pass and questions.may_be_cut_off():
        inputs = sorted(set(questions.inputs))
        sample = questions.ask_for({inputs[0]}, board=True)
        seconds += _seconds_for(predictor, sample, memory, cuda) * math.ceil(SECOND_PASS_SHARE * len(inputs))
    # Rescoring runs the model once for each test input and augmentation: one trajectory's share of the predictions.
    seconds *= 1 + bool(settings.rescore) / settings.trajectories
    return TimeEstimate(SECONDS_TO_START[cuda] + prepared, 1.2 * seconds / processes.count)


def _make_predictor(config: RunConfig, questions: Workload, device: torch.device) -> Predictor:
    """Return a predictor with an untrained model, compiled as the real one on CUDA, and never on a CPU."""
    model = RecursiveModel(config.model)
    table = new_table(questions.examples.row_keys, config.model)
    train = config.train if device.type == "cuda" else config.train.model_copy(update={"compile": False})
    prepare_model(model, table, train, device)
    settings = config.predict
    return Predictor(model, table, questions, settings.steps, settings.record, settings.noise)


def _seconds_for(predictor: Predictor, parts: list[Queries], memory: BatchSize, compiled: bool) -> float:
    """Estimate the seconds for these parts in one process, from one batch of each width.

    Args:
        predictor: the model.
        parts: the rows.
        memory: chooses the batch sizes.
        compiled: every kernel has run already; otherwise each batch runs twice, and only the second run counts.
    """
    by_width: dict[int, list[Queries]] = {}
    for part in parts:
        by_width.setdefault(predictor.width(part), []).append(part)
    seconds = 0.0
    for width, group in by_width.items():
        batch = max(group, key=len).take(slice(0, memory.rows(width)))
        if not compiled:
            predictor.answer(batch, memory)
        start = time.monotonic()
        predictor.answer(batch, memory)
        seconds += (time.monotonic() - start) / len(batch) * sum(map(len, group))
    return seconds
