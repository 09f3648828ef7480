"""Estimates the duration of prediction before training, from timings of an untrained model of the config's size."""

import math
import time

from augment import PuzzleSet
from pipeline.checkpoints.id_table import new_table
from pipeline.checkpoints.load_model import prepare_model
from pipeline.config.run_config import RunConfig
from pipeline.prediction.batch_size import CPU_BOARDS, FEWEST_BOARDS, BatchSize
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.test_time_training import estimate_test_time_training
from pipeline.prediction.workload import Queries, make_questions
from pipeline.runtime.distributed import LaunchedProcesses, join_process_group
from pipeline.runtime.run_folder import RunFolder
from pipeline.training.train import is_trained
from solver.model.model import RecursiveModel

SECOND_PASS_SHARE = 0.05
"""Share of the test inputs for which the estimate includes a second pass on the whole board. 2% of the public outputs
are larger than their task's canvas, and end marks are learnt early (the `cpu` recipe predicts none of 31 test inputs
again)."""
SECONDS_TO_START = {False: 2, True: 60}
"""Start-up time on a CPU (False) and on CUDA (True), where the model is compiled and batch sizes are tried."""


def seconds_to_reserve(config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder) -> float:
    """Return the seconds of the budget to reserve for the predictions of one model.

    It is 0 without a budget, and where training is complete, as nothing needs to be reserved then.
    """
    if config.budget is None or (config.ensemble == 1 and is_trained(config, run)):
        return 0.0
    processes = join_process_group()
    return estimate_seconds(config, puzzle_set, processes) + estimate_test_time_training(config, puzzle_set, processes)


def estimate_seconds(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> float:
    """Return a cautious estimate of the seconds for all predictions, from timed batches of an untrained model.

    It includes a second pass for SECOND_PASS_SHARE of the test inputs, and one more pass if candidates are rescored.
    The timed batches are slower than the real ones, as the model is not compiled for them. SECONDS_TO_START stands for
    the time that compiling takes.
    """
    settings = config.predict
    device = processes.device
    questions = make_questions(config, puzzle_set, settings)
    model = RecursiveModel(config.model)
    table = new_table(questions.examples.row_keys, config.model)
    prepare_model(model, table, config.train.model_copy(update={"compile": False}), device)
    predictor = Predictor(model, table, questions, settings.steps, settings.record, settings.noise)
    boards = settings.batch_size or (FEWEST_BOARDS if device.type == "cuda" else CPU_BOARDS)
    memory = BatchSize(config.model, boards, lambda message: None, device)
    parts = questions.ask_all()
    seconds = _seconds_for(predictor, parts, memory)
    if settings.second_pass and questions.may_be_cut_off():
        inputs = sorted(set(questions.inputs))
        sample = questions.ask_for({inputs[0]}, board=True)
        seconds += _seconds_for(predictor, sample, memory) * math.ceil(SECOND_PASS_SHARE * len(inputs))
    # Rescoring runs the model once for each test input and augmentation: one trajectory's share of the predictions.
    seconds *= 1 + bool(settings.rescore) / settings.trajectories
    return SECONDS_TO_START[device.type == "cuda"] + 1.2 * seconds / processes.count


def _seconds_for(predictor: Predictor, parts: list[Queries], memory: BatchSize) -> float:
    """Estimate the seconds for these parts in one process, from one batch of each width."""
    by_width: dict[int, list[Queries]] = {}
    for part in parts:
        by_width.setdefault(predictor.width(part), []).append(part)
    seconds = 0.0
    for width, group in by_width.items():
        batch = max(group, key=len).take(slice(0, memory.rows(width)))
        for _ in range(2):  # the first run compiles kernels, and only the second one counts
            start = time.monotonic()
            predictor.answer(batch, memory)
        seconds += (time.monotonic() - start) / len(batch) * sum(map(len, group))
    return seconds
