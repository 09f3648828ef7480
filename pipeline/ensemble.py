"""Several models of one config, each from a seed of its own, whose answers are pooled before the vote.

In: a config, its puzzle set and a run's folder. Out: predictions, in RUN/predictions. The first model is the run's own,
the others are runs by themselves in RUN/ensemble/1, 2 ... Of several, each one's answers are in
RUN/ensemble/N/predictions.
"""

from pathlib import Path

from augment import PuzzleSet
from pipeline.budget import Budget
from pipeline.children import is_first
from pipeline.config import RunConfig
from pipeline.launch import join_processes
from pipeline.predict import predict
from pipeline.rescore import rescore
from pipeline.rundir import RunFolder
from pipeline.specialise import specialise
from pipeline.train import train
from submissions.prediction import Predictions, merge_predictions, read_predictions, write_predictions

SEEDS_APART = 1000
"""Between models, so that runs of neighbouring seeds share none."""


def train_and_answer(
    config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder, budget: Budget, reserve: float = 0.0
) -> Predictions:
    """Train every model and have it answer every test input; what is there already is not made again.

    reserve: seconds of the budget that one model needs to answer. Models share what is left equally.
    """
    several = {
        f"model {number}": _one(config, number, puzzle_set, run, budget, reserve) for number in range(config.ensemble)
    }
    if config.ensemble == 1:
        return several["model 0"]
    processes = join_processes()
    pooled = merge_predictions(several)
    if processes.index == 0:
        write_predictions(run.predictions, pooled, replace=True)
    processes.wait()
    return pooled


def config_of(config: RunConfig, number: int) -> RunConfig:
    """Of one model by itself: the first is the run's own config."""
    if number == 0:
        return config
    return config.model_copy(update={"seed": config.seed + SEEDS_APART * number, "ensemble": 1})


def run_folders(config: RunConfig, path: Path) -> list[Path]:
    """The run folder of every model."""
    return [path, *(path / "ensemble" / str(number) for number in range(1, config.ensemble))]


def _one(
    config: RunConfig, number: int, puzzle_set: PuzzleSet, run: RunFolder, budget: Budget, reserve: float
) -> Predictions:
    own, folder = config_of(config, number), run
    if number:
        folder = RunFolder(run_folders(config, run.path)[number], own, first=is_first())
        folder.screen = run.screen
    if config.ensemble > 1:
        folder.log(f"model {number + 1} of {config.ensemble}, seed {own.seed}")
    checkpoint = train(own, puzzle_set, folder, budget, seconds_kept(budget, reserve, config.ensemble - number))
    answers = run.predictions if config.ensemble == 1 else run.path / "ensemble" / str(number) / "predictions"
    answer = specialise if config.train.task_steps else predict
    predictions = answer(checkpoint, puzzle_set, config.predict, answers, folder, recipe=config.recipe)
    if not config.predict.rescore:
        return predictions
    rescore(checkpoint, puzzle_set, config.predict, answers, folder)
    return read_predictions(answers)


def seconds_kept(budget: Budget, reserve: float, models: int) -> float:
    """Seconds of the budget after this model's training: the answers of all that are left, and the others' training."""
    if budget.left() == float("inf"):
        return 0.0
    answering = reserve * models
    training = max(0.0, budget.left(answering))
    return answering + training * (models - 1) / models
