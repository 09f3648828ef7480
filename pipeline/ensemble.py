"""Several models of one config, each from a seed of its own, whose answers are pooled before the vote.

In: a config, its puzzle set and a run's folder. Out: predictions, in RUN/predictions. The first model is the run's own,
the others are runs by themselves in RUN/ensemble/1, 2 ... Of several, each one's answers are in
RUN/ensemble/N/predictions.

Each of several processes trains a model alone, as long as there is one for each of them; they share the models that
remain. A model that a process trains alone is trained as in a run of one process.
"""

from contextlib import nullcontext
from pathlib import Path

from augment import PuzzleSet
from pipeline.config.run_config import RunConfig
from pipeline.prediction.predict import predict
from pipeline.prediction.rescore import rescore
from pipeline.prediction.test_time_training import train_and_predict_tasks
from pipeline.runtime.distributed import LaunchedProcesses, alone, join_process_group
from pipeline.runtime.run_folder import RunFolder
from pipeline.time_budget import Budget
from pipeline.training.trainer import train
from submissions.prediction_files import read_predictions, write_predictions
from submissions.predictions import Predictions, merge_predictions

SEEDS_APART = 1000
"""Between models, so that runs of neighbouring seeds share none."""


def train_and_predict(
    config: RunConfig, puzzle_set: PuzzleSet, run: RunFolder, budget: Budget, reserve: float = 0.0
) -> Predictions:
    """Train every model and have it answer every test input; what is there already is not made again.

    reserve: seconds of the budget in which all processes together answer for one model. Models that are trained one
    after another share what is left equally.

    Returns:
        The answers of all models, the same in every process.
    """
    if config.ensemble == 1:
        return _one(config, 0, puzzle_set, run, budget, seconds_kept(budget, [reserve]), run.predictions)
    processes = join_process_group()
    rounds = config.ensemble // processes.count if processes.count > 1 else 0
    shared = range(rounds * processes.count, config.ensemble)
    reserves = [reserve * processes.count] * rounds + [reserve] * len(shared)
    work = [(number * processes.count + processes.index, True) for number in range(rounds)]
    work += [(number, False) for number in shared]
    finished = FinishedModels(run.path / "ensemble", processes)
    for place, (number, by_itself) in enumerate(work):
        if place == rounds:
            finished.wait_for_all()
        kept = seconds_kept(budget, reserves[place:])
        with alone() if by_itself else nullcontext():
            _one(config, number, puzzle_set, run, budget, kept, predictions_folder(run.path, number))
    finished.wait_for_all()
    pooled = merge_predictions(
        {f"model {number}": read_predictions(predictions_folder(run.path, number)) for number in range(config.ensemble)}
    )
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


def predictions_folder(path: Path, number: int) -> Path:
    """Where the answers of one of several models are, in the run's folder."""
    return path / "ensemble" / str(number) / "predictions"


class FinishedModels:
    """Which processes have done what they do alone: a file for each, as one may need hours more than another.

    Files are looked at, and not waited for by a collective operation, which would end after half an hour.
    """

    def __init__(self, folder: Path, processes: LaunchedProcesses):
        self.processes = processes
        self.marks = [folder / f".finished-{index}" for index in range(processes.count)]
        folder.mkdir(parents=True, exist_ok=True)
        self._own.unlink(missing_ok=True)
        processes.wait()

    @property
    def _own(self) -> Path:
        return self.marks[self.processes.index]

    def wait_for_all(self) -> None:
        """This process is done; wait until every other is too."""
        self._own.touch()
        self.processes.wait_until(lambda: all(mark.exists() for mark in self.marks))


def _one(
    config: RunConfig,
    number: int,
    puzzle_set: PuzzleSet,
    run: RunFolder,
    budget: Budget,
    kept: float,
    answers: Path,
) -> Predictions:
    own = config_of(config, number)
    folder = run
    processes = join_process_group()
    if number:
        folder = RunFolder(run_folders(config, run.path)[number], own, first=processes.index == 0)
        folder.screen = run.screen
    if config.ensemble > 1:
        folder.log(f"model {number + 1} of {config.ensemble}, seed {own.seed}")
    checkpoint = train(own, puzzle_set, folder, budget, kept)
    answer = train_and_predict_tasks if config.train.task_steps else predict
    predictions = answer(checkpoint, puzzle_set, config.predict, answers, folder, recipe=config.recipe)
    if not config.predict.rescore:
        return predictions
    rescore(checkpoint, puzzle_set, config.predict, answers, folder)
    return read_predictions(answers)


def seconds_kept(budget: Budget, reserves: list[float]) -> float:
    """Seconds of the budget after a model's training: the answers of it and of those after it, and their training.

    reserves: seconds in which each of these models is answered with, in their order
    """
    if budget.left() == float("inf"):
        return 0.0
    answering = sum(reserves)
    training = max(0.0, budget.left(answering))
    return answering + training * (len(reserves) - 1) / len(reserves)
