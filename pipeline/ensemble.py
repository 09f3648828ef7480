"""Several models of one config, each from a seed of its own, whose predictions are pooled before the vote.

The first model is the run's own; the others are runs by themselves in RUN/ensemble/1, 2 ... With several models the
predictions of each are in RUN/ensemble/N/predictions, and pooled in RUN/predictions.

Each of several processes trains a model alone, as long as there is one for each of them; they share the models that
remain. A model that a process trains alone is trained as in a run of one process.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.runtime.distributed import LaunchedProcesses, alone, join_process_group
from pipeline.runtime.run_folder import RunFolder
from pipeline.time_budget import Budget
from submissions.prediction_files import read_predictions, write_predictions
from submissions.predictions import Predictions, merge_predictions

SEEDS_APART = 1000
"""Between models, so that runs of neighbouring seeds share none."""


@dataclass(frozen=True)
class Model:
    """One model to train and predict with.

    config: its own, with its seed
    run: its run folder
    predictions: its predictions folder
    reserve: seconds of the budget that its training leaves: for its predictions, and for the models after it
    """

    config: RunConfig
    run: RunFolder
    predictions: Path
    reserve: float


def each_model(config: RunConfig, run: RunFolder, budget: Budget, reserve: float = 0.0) -> Iterator[Model]:
    """The models that this process trains, one after another: all of them where it is the only one.

    While a model is out, this process may be the only one of its process group (`pipeline.runtime.distributed.alone`).

    Args:
        reserve: seconds of the budget in which all processes together predict with one model. Models that are trained
            one after another share what is left equally.
    """
    if config.ensemble == 1:
        yield Model(config, run, run.predictions, seconds_kept(budget, [reserve]))
        return
    processes = join_process_group()
    rounds = config.ensemble // processes.count if processes.count > 1 else 0
    shared = range(rounds * processes.count, config.ensemble)
    reserves = [reserve * processes.count] * rounds + [reserve] * len(shared)
    numbers = [turn * processes.count + processes.index for turn in range(rounds)]
    finished = FinishedModels(run.path / "ensemble", processes)
    for place, number in enumerate([*numbers, *shared]):
        if place == rounds:
            finished.wait_for_all()
        kept = seconds_kept(budget, reserves[place:])
        with alone() if place < rounds else nullcontext():
            yield _model(config, number, run, kept)
    finished.wait_for_all()


def _model(config: RunConfig, number: int, run: RunFolder, reserve: float) -> Model:
    """One of several models; its run folder prints on the screen of the whole run."""
    own = config_of(config, number)
    folder = run
    if number:
        folder = RunFolder(run_folders(config, run.path)[number], own, first=join_process_group().index == 0)
        folder.screen = run.screen
    folder.log(f"model {number + 1} of {config.ensemble}, seed {own.seed}")
    return Model(own, folder, predictions_folder(run.path, number), reserve)


def pool_predictions(config: RunConfig, run: RunFolder) -> Predictions:
    """The predictions of all models together, the same in every process."""
    if config.ensemble == 1:
        return read_predictions(run.predictions)
    folders = {f"model {number}": predictions_folder(run.path, number) for number in range(config.ensemble)}
    pooled = merge_predictions({name: read_predictions(folder) for name, folder in folders.items()})
    processes = join_process_group()
    if processes.index == 0:
        write_predictions(run.predictions, pooled, replace=True)
    processes.wait()
    return pooled


def config_of(config: RunConfig, number: int) -> RunConfig:
    """The config of one model by itself: the first is the run's own."""
    if number == 0:
        return config
    return config.model_copy(update={"seed": config.seed + SEEDS_APART * number, "ensemble": 1})


def run_folders(config: RunConfig, path: Path) -> list[Path]:
    """The run folder of every model."""
    return [path, *(path / "ensemble" / str(number) for number in range(1, config.ensemble))]


def predictions_folder(path: Path, number: int) -> Path:
    """Where the predictions of one of several models are, in the run's folder."""
    return path / "ensemble" / str(number) / "predictions"


class FinishedModels:
    """Which processes have finished the models that they train alone: a file for each process.

    One may need hours more than another, and a collective operation ends with an error after half an hour. So they
    look for each other's files instead.
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


def seconds_kept(budget: Budget, reserves: list[float]) -> float:
    """Seconds of the budget that a model's training leaves: predictions of it and of those after it, their training.

    reserves: seconds in which each of these models predicts, in their order
    """
    if budget.left() == float("inf"):
        return 0.0
    predicting = sum(reserves)
    training = max(0.0, budget.left(predicting))
    return predicting + training * (len(reserves) - 1) / len(reserves)
