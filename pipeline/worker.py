"""One stage of a run whose folder stands, as a process of its own: what `solve` starts when nobody watches.

    python -m pipeline.worker train RUN --until T --later SECONDS [--micro-batch N] [--from-scratch]
    python -m pipeline.worker predict RUN --until T --out FOLDER --views N [--boards N] [--last] [--plain]
    python -m pipeline.worker solve RUN                              all of them, by a launcher

Times are of the monotonic clock, which all processes of a machine share. The stage ends itself when its parent does.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from augment import open_puzzle_set
from augment.storage import read_json
from pipeline.checkpoints.checkpoint import Checkpoint, load_checkpoint, read_checkpoint_header
from pipeline.config.run_config import RunConfig, build_config, override
from pipeline.prediction.stage import run_prediction
from pipeline.runtime.distributed import leave_process_group
from pipeline.runtime.events import report_error
from pipeline.runtime.exit_codes import CheckpointError, OutOfMemoryError
from pipeline.runtime.launcher import PARENT, is_first
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.stop_signals import end_with
from pipeline.solve import solve
from pipeline.time_budget import Budget
from pipeline.training.train import train
from pipeline.training.trainer import TrainingWindow
from solver.training.micro_batches import ran_out_of_memory

DAMAGED_PREFIX = "checkpoints.damaged-"


def train_stage(config: RunConfig, run: RunFolder, given: argparse.Namespace) -> None:
    """Train until it is time for something else; later stretches go on from there."""
    if given.from_scratch:
        set_checkpoints_aside(run)
    changes = {"train.micro_batch": given.micro_batch} if given.micro_batch else {}
    budget = Budget(max(given.until - time.monotonic(), 1e-3))
    window = TrainingWindow(later=given.later, save_every=given.save_every)
    train(override(config, changes), open_puzzle_set(run.puzzles), run, budget, window=window)


def predict_stage(config: RunConfig, run: RunFolder, options: argparse.Namespace) -> None:
    """Predict every test input with the newest checkpoint that can be read; the last pass as the config asks for."""
    changes = {"augmentations": options.views - 1, "batch_size": options.boards or config.predict.batch_size}
    if not options.last:
        changes |= {"second_pass": False, "rescore": 0}
    checkpoint = newest_checkpoint(run)
    predict_config = config.model_copy(update={"predict": config.predict.model_copy(update=changes)})
    adapt = options.last and not options.plain
    run_prediction(predict_config, checkpoint, open_puzzle_set(run.puzzles), options.out, run, options.until, adapt)


def newest_checkpoint(run: RunFolder) -> Checkpoint:
    """Load the checkpoint of the most steps that is intact: final ones, those on the way, and those set aside.

    Raises:
        CheckpointError: where there is none.
    """
    places = [run.checkpoints, *sorted(run.path.glob(f"{DAMAGED_PREFIX}*"), reverse=True)]
    folders = [folder for place in places for folder in (place / "final", *sorted(place.glob("step_[0-9]*"))[::-1])]
    steps: dict[Path, int] = {}
    for folder in filter(Path.exists, folders):
        try:
            steps[folder] = read_checkpoint_header(folder).step
        except CheckpointError as error:
            run.warn(f"{error.summary}; another checkpoint is used")
    for folder in sorted(steps, key=steps.__getitem__, reverse=True):
        try:
            return load_checkpoint(folder)
        except CheckpointError as error:
            run.warn(f"{error.summary}; another checkpoint is used")
    raise CheckpointError(f"{run.checkpoints}: no checkpoint can be read, so there is nothing to predict with")


def set_checkpoints_aside(run: RunFolder) -> None:
    """Training begins anew; what could not be gone on from is kept under another name."""
    if is_first() and run.checkpoints.exists():
        aside = run.path / f"{DAMAGED_PREFIX}{int(time.time())}"
        run.checkpoints.rename(aside)
        run.log(f"training begins anew; the old checkpoints are kept in {aside.name}")


def leave_with_parent() -> None:
    """End this process as soon as the one that started the stage is gone: nobody else would."""
    if number := int(os.environ.get(PARENT, "0")):
        end_with(number)


def read_words(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.worker", allow_abbrev=False)
    stages = parser.add_subparsers(dest="stage", required=True)
    trains = stages.add_parser("train")
    predicts = stages.add_parser("predict")
    for each in (trains, predicts):
        each.add_argument("--until", type=float, required=True, help="monotonic time when to be done")
    for each in (trains, predicts, stages.add_parser("solve")):
        each.add_argument("run", type=Path)
    trains.add_argument("--later", type=float, default=0.0, help="seconds of training that later stretches will have")
    trains.add_argument("--save-every", type=float, default=None, help="seconds between checkpoints")
    trains.add_argument("--micro-batch", type=int, default=None, help="boards at once")
    trains.add_argument("--from-scratch", action="store_true", help="do not go on from the checkpoints that are there")
    predicts.add_argument("--out", type=Path, required=True)
    predicts.add_argument("--views", type=int, required=True, help="augmentations, the original counted")
    predicts.add_argument("--boards", type=int, default=None, help="boards at once")
    predicts.add_argument("--last", action="store_true", help="with all that the settings ask of predictions")
    predicts.add_argument("--plain", action="store_true", help="without training on each task by itself")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Run one stage; an error that is no bug is reported in one line and by the exit code."""
    leave_with_parent()
    given = read_words(words)
    config = build_config(read_json(given.run / "config.json"))
    try:
        if given.stage == "solve":
            solve(config, given.run)
        else:
            run = RunFolder(given.run, config, first=is_first())
            {"train": train_stage, "predict": predict_stage}[given.stage](config, run, given)
        leave_process_group()
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not ran_out_of_memory(error):
            raise
        failure = OutOfMemoryError(str(error).splitlines()[0]) if ran_out_of_memory(error) else error
        sys.exit(report_error(failure))


if __name__ == "__main__":
    main(sys.argv[1:])
