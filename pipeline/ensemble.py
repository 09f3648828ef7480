"""Train an ensemble: several models of one config with different seeds, whose predictions are pooled for the vote.

Model 0 is trained in the run folder itself; the others have run folders of their own, RUN/ensemble/1, 2 ... With
several models the predictions of model N are in RUN/ensemble/N/predictions, and the pooled ones in RUN/predictions.

With several processes, each trains whole models alone while there is one for every process. They train the remaining
models together. A model that a process trains alone is trained as in a run of one process.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.run_config import SEEDS_APART, RunConfig
from pipeline.runtime.distributed import alone, join_process_group
from pipeline.runtime.finish_marks import FinishMarks
from pipeline.runtime.run_folder import RunFolder
from pipeline.time_budget import Budget
from submissions.prediction_files import read_predictions, write_predictions
from submissions.predictions import Predictions, merge_predictions


@dataclass(frozen=True)
class Model:
    """One model to train and predict with.

    config: of this model, with its seed
    run: its run folder
    predictions: its predictions folder
    reserve: seconds of the budget that its training must leave, for its predictions and for the models after it
    """

    config: RunConfig
    run: RunFolder
    predictions: Path
    reserve: float


def each_model(config: RunConfig, run: RunFolder, budget: Budget, reserve: float = 0.0) -> Iterator[Model]:
    """Yield the models that this process trains, one after another: all of them if there is one process.

    Until the next model is requested, this process may be the only one of its process group
    (`pipeline.runtime.distributed.alone`).

    Args:
        config: of the run.
        run: the run folder.
        budget: of the whole run.
        reserve: seconds in which all processes together predict with one model. Models that are trained one after
            another share the rest of the budget equally.
    """
    if config.ensemble == 1:
        yield Model(config, run, run.predictions, seconds_kept(budget, [reserve]))
        return
    processes = join_process_group()
    # In each round every process trains one model alone; the models that remain are shared by all processes.
    rounds = config.ensemble // processes.count if processes.count > 1 else 0
    shared = range(rounds * processes.count, config.ensemble)
    # A process that predicts alone takes as many times longer as there are processes.
    reserves = [reserve * processes.count] * rounds + [reserve] * len(shared)
    numbers = [index * processes.count + processes.index for index in range(rounds)]
    finished = FinishMarks(run.path / "ensemble", processes)
    for place, number in enumerate([*numbers, *shared]):
        if place == rounds:
            finished.wait_for_all()
        seconds = seconds_kept(budget, reserves[place:])
        with alone() if place < rounds else nullcontext():
            yield _open_model(config, number, run, seconds)
    finished.wait_for_all()


def _open_model(config: RunConfig, number: int, run: RunFolder, reserve: float) -> Model:
    """Open one of several models; its run folder prints on the screen of the whole run."""
    model_config = config_of(config, number)
    folder = run
    if number:
        path = run_folders(config, run.path)[number]
        folder = RunFolder(path, model_config, first=join_process_group().index == 0, part=True)
        folder.screen = run.screen
    folder.log(f"model {number + 1} of {config.ensemble}, seed {model_config.seed}")
    return Model(model_config, folder, predictions_folder(run.path, number), reserve)


def pool_predictions(config: RunConfig, run: RunFolder) -> Predictions:
    """Return the predictions of all models together, the same in every process; the first process writes them."""
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
    """Return the config of one model as a run of its own; that of model 0 is the run's config."""
    if number == 0:
        return config
    return config.model_copy(update={"seed": config.seed + SEEDS_APART * number, "ensemble": 1})


def run_folders(config: RunConfig, path: Path) -> list[Path]:
    """Return the run folders of all models, in their order."""
    return [path, *(path / "ensemble" / str(number) for number in range(1, config.ensemble))]


def predictions_folder(path: Path, number: int) -> Path:
    """Return the predictions folder of one of several models."""
    return path / "ensemble" / str(number) / "predictions"


def seconds_kept(budget: Budget, reserves: list[float]) -> float:
    """Return the seconds of the budget that a model's training must leave for predictions and for later models.

    The rest of the budget is shared equally among the trainings of this model and the models after it.

    Args:
        budget: of the whole run.
        reserves: seconds in which this model and each model after it predicts, in their order.
    """
    if budget.left() == float("inf"):
        return 0.0
    predicting = sum(reserves)
    training = max(0.0, budget.left(predicting))
    return predicting + training * (len(reserves) - 1) / len(reserves)
