"""How long prediction will take, measured with a model of the config's size before there are trained weights."""

import math
import time

from augment import PuzzleSet
from pipeline.checkpoints.checkpoint import new_table
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
"""Of the test inputs, how many time is kept for to ask them again on the whole board: 2% of the public outputs are
larger than their task canvas, and end marks are learnt early (the `cpu` recipe asks none of 31 test inputs again)."""
SECONDS_TO_START = {False: 2, True: 60}
"""On a CPU, and on CUDA, where the model is compiled and the size of a batch tried."""


def seconds_to_reserve(config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder) -> float:
    """Seconds of the budget to keep for the predictions of one model; 0 without a budget or where training is done."""
    if config.budget is None or (config.ensemble == 1 and is_trained(config, run)):
        return 0.0
    processes = join_process_group()
    return estimate_seconds(config, puzzle_set, processes) + estimate_test_time_training(config, puzzle_set, processes)


def estimate_seconds(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> float:
    """A cautious estimate of the time for all predictions, from two batches of an untrained model.

    It counts SECOND_PASS_SHARE of the test inputs as asked again, and a pass more where candidates are rescored. The
    batches are slower than those to come, as nothing is compiled for them; SECONDS_TO_START are for that.
    """
    settings = config.predict
    device = processes.device
    questions = make_questions(config, puzzle_set, settings)
    model = RecursiveModel(config.model)
    table = new_table(questions.examples.row_keys, config.model)
    prepare_model(model, table, config.train.model_copy(update={"compile": False}), device)
    predictor = Predictor(model, table, questions, settings.steps, settings.record, settings.noise)
    boards = settings.batch_size or (FEWEST_BOARDS if device.type == "cuda" else CPU_BOARDS)
    memory = BatchSize(config.model, boards, lambda said: None)
    parts = questions.ask_all()
    seconds = _seconds_for(predictor, parts, memory)
    if settings.second_pass and questions.may_be_cut_off():
        inputs = sorted(set(questions.inputs))
        one = questions.ask_for({inputs[0]}, board=True)
        seconds += _seconds_for(predictor, one, memory) * math.ceil(SECOND_PASS_SHARE * len(inputs))
    seconds *= 1 + bool(settings.rescore) / settings.trajectories
    return SECONDS_TO_START[device.type == "cuda"] + 1.2 * seconds / processes.count


def _seconds_for(predictor: Predictor, parts: list[Queries], memory: BatchSize) -> float:
    """The time for these parts in one process, from a batch of each width; the first of two compiles kernels."""
    by_width: dict[int, list[Queries]] = {}
    for part in parts:
        by_width.setdefault(predictor.width(part), []).append(part)
    seconds = 0.0
    for width, same in by_width.items():
        batch = max(same, key=len).take(slice(0, memory.rows(width)))
        for _ in range(2):
            start = time.monotonic()
            predictor.answer(batch, memory)
        seconds += (time.monotonic() - start) / len(batch) * sum(map(len, same))
    return seconds
