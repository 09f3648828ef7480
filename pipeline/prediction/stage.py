"""The predict stage: from a checkpoint and a puzzle set to predictions for every test input."""

import math
from pathlib import Path

from augment import PuzzleSet
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config.run_config import RunConfig
from pipeline.prediction.predict import predict
from pipeline.prediction.rescore import rescore
from pipeline.prediction.test_time_training import train_and_predict_tasks
from pipeline.runtime.run_folder import RunFolder
from submissions.prediction_files import read_predictions
from submissions.predictions import Predictions


def run_prediction(
    config: RunConfig,
    checkpoint: Checkpoint,
    puzzle_set: PuzzleSet,
    folder: Path,
    run: RunFolder,
    until: float = math.inf,
    adapt: bool = True,
) -> Predictions:
    """Predict every test input under every augmentation, with the config's `predict` settings.

    Args:
        config: the run's settings.
        checkpoint: the trained model.
        puzzle_set: the puzzles to predict.
        folder: the predictions folder to write; existing predictions of the same inputs are not made again.
        run: where progress is shown.
        until: the monotonic time after which nothing is predicted a second time on the whole board.
        adapt: whether to do test-time training on each task first, if train.task_steps is above 0.

    Returns:
        The predictions, with scores of candidates if predict.rescore is above 0; the same in every process.
    """
    settings = config.predict
    if config.train.task_steps and adapt:
        predictions = train_and_predict_tasks(checkpoint, puzzle_set, settings, folder, run, recipe=config.recipe)
    else:
        predictions = predict(checkpoint, puzzle_set, settings, folder, run, until, recipe=config.recipe)
    if not settings.rescore:
        return predictions
    rescore(checkpoint, puzzle_set, settings, folder, run)
    return read_predictions(folder)
