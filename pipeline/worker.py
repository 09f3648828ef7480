"""Run one stage of an existing run folder as a separate process, for the supervisor and for launchers.

    python -m pipeline.worker train RUN --until T --later SECONDS [--micro-batch N] [--from-scratch] [--eager]
    python -m pipeline.worker predict RUN --until T --out FOLDER --views N [--boards N] [--last] [--plain] [--eager]
    python -m pipeline.worker solve RUN                              all stages, started by a launcher

Times T are of the monotonic clock, which all processes of a machine share. The process ends when its parent does.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from augment import open_puzzle_set
from augment.text_files import read_json
from pipeline.checkpoints.checkpoint import Checkpoint, load_checkpoint, read_checkpoint_header
from pipeline.checkpoints.compilation import DISABLE
from pipeline.config.run_config import RunConfig, build_config, override
from pipeline.prediction.stage import run_prediction
from pipeline.runtime.distributed import leave_process_group
from pipeline.runtime.events import report_error
from pipeline.runtime.exit_codes import CheckpointError
from pipeline.runtime.launcher import PARENT, is_first
from pipeline.runtime.output import protect_output
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.stop_signals import bounded_end, end_with, exit_on_sigterm
from pipeline.runtime.system_errors import explain_memory
from pipeline.solve import solve
from pipeline.time_budget import Budget
from pipeline.training.train import train
from pipeline.training.trainer import TrainingWindow
from solver.training.device_memory import MEMORY_ERRORS, ran_out_of_memory

DAMAGED_PREFIX = "checkpoints.damaged-"


def train_stage(config: RunConfig, run: RunFolder, options: argparse.Namespace) -> None:
    """Train until `options.until`; a later call resumes from the checkpoint that is written then."""
    if options.from_scratch:
        set_checkpoints_aside(run)
    changes = {"train.micro_batch": options.micro_batch} if options.micro_batch else {}
    budget = Budget(max(options.until - time.monotonic(), 1e-3))
    window = TrainingWindow(later=options.later, save_every=options.save_every)
    train(override(config, changes), open_puzzle_set(run.puzzles), run, budget, window=window)


def predict_stage(config: RunConfig, run: RunFolder, options: argparse.Namespace) -> None:
    """Predict every test input with the newest readable checkpoint; only the last pass rescores and predicts twice."""
    changes = {"augmentations": options.views - 1, "batch_size": options.boards or config.predict.batch_size}
    if not options.last:  # cheap passes
        changes |= {"second_pass": False, "rescore": 0}
    checkpoint = newest_checkpoint(run)
    predict_config = config.model_copy(update={"predict": config.predict.model_copy(update=changes)})
    adapt = options.last and not options.plain
    run_prediction(predict_config, checkpoint, open_puzzle_set(run.puzzles), options.out, run, options.until, adapt)


def newest_checkpoint(run: RunFolder) -> Checkpoint:
    """Load the intact checkpoint of the most steps: final, intermediate, or in a folder set aside as damaged.

    Raises:
        CheckpointError: if there is none.
    """
    places = [run.checkpoints, *sorted(run.path.glob(f"{DAMAGED_PREFIX}*"), reverse=True)]
    folders = [folder for place in places for folder in (place / "final", *sorted(place.glob("step_[0-9]*"))[::-1])]
    steps: dict[Path, int] = {}
    for folder in filter(Path.exists, folders):
        try:
            # Headers are read first: the weights of one checkpoint only have to be loaded.
            steps[folder] = read_checkpoint_header(folder).step
        except CheckpointError as error:
            run.warn(f"{error.summary}; another checkpoint is used")
    for folder in sorted(steps, key=steps.__getitem__, reverse=True):
        try:
            return load_checkpoint(folder)
        except CheckpointError as error:
            run.warn(f"{error.summary}; another checkpoint is used")
    raise CheckpointError(f"{run.checkpoints}: no checkpoint can be read to predict with", "train the run again")


def set_checkpoints_aside(run: RunFolder) -> None:
    """Rename the folder of unreadable checkpoints, so that training starts from scratch."""
    if is_first() and run.checkpoints.exists():
        aside = run.path / f"{DAMAGED_PREFIX}{int(time.time())}"
        run.checkpoints.rename(aside)
        run.log(f"training starts from scratch; the old checkpoints are kept in {aside.name}")


def leave_with_parent() -> None:
    """End this process as soon as the process that started it is gone."""
    if number := int(os.environ.get(PARENT, "0")):
        end_with(number)


def read_words(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.worker", allow_abbrev=False)
    stages = parser.add_subparsers(dest="stage", required=True)
    train_parser = stages.add_parser("train")
    predict_parser = stages.add_parser("predict")
    for stage in (train_parser, predict_parser):
        stage.add_argument("--eager", action="store_true", help="without torch.compile")
        stage.add_argument("--until", type=float, required=True, help="monotonic time at which to be done")
    for stage in (train_parser, predict_parser, stages.add_parser("solve")):
        stage.add_argument("run", type=Path)
    add = train_parser.add_argument
    add("--later", type=float, default=0.0, help="seconds of training that later calls will have")
    add("--save-every", type=float, default=None, help="seconds between checkpoints")
    add("--micro-batch", type=int, default=None, help="boards computed at once")
    add("--from-scratch", action="store_true", help="put the existing checkpoints aside instead of resuming")
    add = predict_parser.add_argument
    add("--out", type=Path, required=True)
    add("--views", type=int, required=True, help="augmentations, the original counted")
    add("--boards", type=int, default=None, help="boards computed at once")
    add("--last", action="store_true", help="with second pass, rescoring and training on each task as configured")
    add("--plain", action="store_true", help="without training on each task by itself")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Run one stage; report an error that is not a bug in one line and by the exit code."""
    protect_output()
    leave_with_parent()
    options = read_words(words)
    try:
        with exit_on_sigterm(), bounded_end():
            _run(options)
    except KeyboardInterrupt:  # before the stage watches for signals, or after it
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError) as error:
        sys.exit(report_error(error))
    except MEMORY_ERRORS as error:
        if not ran_out_of_memory(error):
            raise
        sys.exit(report_error(explain_memory(error)))


def _run(options: argparse.Namespace) -> None:
    """Run the stage that the command line names."""
    config = build_config(read_json(options.run / "config.json"))
    if options.stage == "solve":
        solve(config, options.run)
    else:
        if options.eager:
            os.environ[DISABLE] = "1"
        run = RunFolder(options.run, config, first=is_first())
        {"train": train_stage, "predict": predict_stage}[options.stage](config, run, options)
    leave_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
