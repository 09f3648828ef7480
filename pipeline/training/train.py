"""The train stage: trains on a puzzle set, and returns a checkpoint."""

from augment import PuzzleSet
from pipeline.checkpoints.checkpoint import Checkpoint, load_checkpoint, read_checkpoint_header
from pipeline.checkpoints.compilation import explain_compilation
from pipeline.config.run_config import RunConfig
from pipeline.runtime.distributed import LaunchedProcesses, start_accelerator
from pipeline.runtime.exit_codes import CheckpointError
from pipeline.runtime.progress import Progress
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.stop_signals import SECONDS_TO_END, StopSignals
from pipeline.time_budget import Budget
from pipeline.training.size_limits import check_training
from pipeline.training.trainer import NO_WINDOW, Trainer, TrainingWindow


def train(
    config: RunConfig,
    puzzle_set: PuzzleSet,
    run: RunFolder,
    budget: Budget,
    reserve: float = 0.0,
    window: TrainingWindow = NO_WINDOW,
) -> Checkpoint:
    """Train for config.train.steps steps, or until only `reserve` seconds of the budget are left.

    A run that was stopped resumes from its last checkpoint, and a complete run is not trained again.

    Args:
        config: the run's settings.
        puzzle_set: the puzzles to train on.
        run: the run folder.
        budget: the time limit of the whole run.
        reserve: seconds of the budget that are reserved for later stages.
        window: set if this training is one of several windows of a schedule.

    Returns:
        The final checkpoint, also in RUN/checkpoints/final.

    Raises:
        UserError: if training cannot continue; it names the reason, the fix and the last checkpoint.
        SystemExit: after SIGTERM or SIGINT, when a checkpoint has been written, however long that takes. If a step
            takes longer than `SECONDS_TO_END`, the process ends with the same code, and the last checkpoint stands.
    """
    accelerator = start_accelerator(config.train.trackers, run.path)
    trained = _load_trained(config, run)
    if LaunchedProcesses(accelerator).any(trained is not None):
        run.log(f"training was already done: {run.final_checkpoint}")
        return trained or load_checkpoint(run.final_checkpoint)
    check_training(config, puzzle_set)
    trainer = Trainer(config, puzzle_set, run, accelerator, window)
    steps = config.train.steps
    stop = StopSignals()
    with Progress(run, "train", steps, trainer.learner.steps) as progress:
        try:
            with stop.watched(SECONDS_TO_END), explain_compilation():
                while trainer.goes_on(stop, left := budget.left(reserve)):
                    trainer.step(progress, left, lambda: stop.received is not None or budget.left(reserve) <= 0)
        except ValueError:
            # Let the writing thread finish the last checkpoint. Not after other errors, such as a lost process: the
            # write would wait for the files of that process.
            trainer.keeper.wait()
            raise
        # Without a limit: a checkpoint that takes longer to write must not be lost.
        with stop.watched(), explain_compilation():
            return trainer.finish(stop, reserve)


def is_trained(config: RunConfig, run: RunFolder) -> bool:
    """Return whether the run has a final checkpoint with all steps; one that the budget ended earlier can continue."""
    try:
        header = read_checkpoint_header(run.final_checkpoint) if run.final_checkpoint.exists() else None
    except CheckpointError:
        return False
    return header is not None and header.step >= config.train.steps


def _load_trained(config: RunConfig, run: RunFolder) -> Checkpoint | None:
    """Load the final checkpoint if it is complete; None if it is missing, damaged or from before the last step."""
    if not run.final_checkpoint.exists():
        return None
    try:
        header = read_checkpoint_header(run.final_checkpoint)
        return load_checkpoint(run.final_checkpoint) if header.step >= config.train.steps else None
    except CheckpointError as error:
        run.warn(f"{error.summary}; it is made again")
        return None
