"""The train stage: a puzzle set in, a checkpoint out."""

from augment import PuzzleSet
from pipeline.checkpoints.checkpoint import Checkpoint, load_checkpoint, read_checkpoint_header
from pipeline.config.run_config import RunConfig
from pipeline.runtime.distributed import LaunchedProcesses, start_accelerator
from pipeline.runtime.exit_codes import CheckpointError
from pipeline.runtime.progress import Progress
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.stop_signals import StopSignals
from pipeline.time_budget import Budget
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

    A run that was stopped before goes on from its last checkpoint; one that is finished is not trained again.

    Returns:
        The final checkpoint, also in RUN/checkpoints/final.

    Raises:
        ValueError: where training cannot go on, saying why, what to do and where the last checkpoint is.
        SystemExit: after SIGTERM or SIGINT, once a checkpoint is written.
    """
    accelerator = start_accelerator(config.train.trackers, run.path)
    trained = _load_trained(config, run)
    if LaunchedProcesses(accelerator).any(trained is not None):
        run.log(f"training was already done: {run.final_checkpoint}")
        return trained or load_checkpoint(run.final_checkpoint)
    session = Trainer(config, puzzle_set, run, accelerator, window)
    steps = config.train.steps
    with Progress(run, "train", steps, session.learner.steps) as progress, StopSignals().watched() as stop:
        try:
            while session.goes_on(stop, left := budget.left(reserve)):
                session.step(progress, left)
        except ValueError:
            session.keeper.wait()  # a checkpoint that is being written is kept; not so where a process is lost
            raise
        return session.finish(stop, reserve)


def is_trained(config: RunConfig, run: RunFolder) -> bool:
    """Whether the final checkpoint's header says that every step is done; one that the budget ended may go on."""
    try:
        header = read_checkpoint_header(run.final_checkpoint) if run.final_checkpoint.exists() else None
    except CheckpointError:
        return False
    return header is not None and header.step >= config.train.steps


def _load_trained(config: RunConfig, run: RunFolder) -> Checkpoint | None:
    """The final checkpoint where every step is done and it is intact; a damaged one is trained again."""
    try:
        return load_checkpoint(run.final_checkpoint) if is_trained(config, run) else None
    except CheckpointError as error:
        run.warn(f"{error.summary}; it is made again")
        return None
