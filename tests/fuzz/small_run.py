"""A puzzle set, a checkpoint and predictions, small enough that a command on them takes milliseconds."""

from pathlib import Path

from augment import open_puzzle_set
from pipeline.checkpoints.checkpoint import save_checkpoint
from solver.model.config import ModelConfig
from tests.fuzz import puzzle_sets
from tests.fuzz.outcomes import call_command
from tests.helpers.sources import FIRST, SECOND, write_source
from tests.helpers.untrained import make_checkpoint

MODEL = ModelConfig(
    hidden=8, heads=1, expansion=1, inner_multiple=8, layers=1, h_cycles=1, l_cycles=1, id_slots=1, max_steps=2,
    canvas="task", board_side=6,
)  # fmt: skip
PUZZLES = puzzle_sets.FOLDER
CHECKPOINT = "checkpoint"
PREDICTIONS = "predictions"
SOURCE = "tasks"


def write_checkpoint() -> None:
    """Write a puzzle set and an untrained checkpoint of its tasks."""
    puzzle_sets.prepare()
    save_checkpoint(Path(CHECKPOINT), make_checkpoint(open_puzzle_set(Path(PUZZLES)), MODEL, second_pass=False))


def write_all() -> None:
    """Write a puzzle set, a checkpoint, its predictions with the scores of rescoring, and the source."""
    write_checkpoint()
    write_source(Path(SOURCE), FIRST, SECOND)
    call_command("predict", *on_files(), "--out", Path(PREDICTIONS), "--rescore", "2")


def on_files() -> tuple[str | Path, ...]:
    """Return the options of `predict` that name its inputs."""
    return "--puzzles", Path(PUZZLES), "--checkpoint", Path(CHECKPOINT)
