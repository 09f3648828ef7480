"""The folder of a puzzle set: opened, and every example rendered."""

from pathlib import Path
from random import Random

import numpy as np

from augment import PuzzleSet, SourcedTasks, build_puzzle_set, open_puzzle_set, write_puzzle_set
from augment.puzzle_set_files import SUMMARY_FILE
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.data.tokens import VOCABULARY
from tests.fuzz.outcomes import refusable
from tests.fuzz.sealed import mutate_sealed_folder
from tests.helpers.sources import FIRST, SECOND, THIRD

FOLDER = "puzzles"


def prepare() -> None:
    """Write a set of two scored tasks and a train task."""
    sources = [SourcedTasks("a", "scored", [FIRST, SECOND]), SourcedTasks("b", "train", [THIRD])]
    write_puzzle_set(build_puzzle_set(sources, 3, seed=0, board_side=6), Path(FOLDER))


def mutate(random: Random) -> str:
    """Alter a file of the set."""
    return mutate_sealed_folder(random, Path(FOLDER), SUMMARY_FILE)


def read(random: Random) -> None:
    """Open the set, and use every part of it."""
    puzzle_set = refusable(open_puzzle_set, Path(FOLDER))
    assert len(refusable(puzzle_set.keys)) == len(puzzle_set)
    assert len(puzzle_set.seen) >= 0
    render_everything(puzzle_set)


def render_everything(puzzle_set: PuzzleSet) -> None:
    """Render every pair of a set under every puzzle, on task canvases and on whole boards."""
    for canvas in ("task", "full"):
        dataset = refusable(PuzzleDataset, puzzle_set, canvas)
        for puzzles, pairs in (dataset.test_inputs(), dataset.held_out()):
            check_batch(dataset.render(puzzles, pairs), puzzle_set)
        if not dataset.trained.any():
            continue
        sampler = refusable(dataset.sampler, 0)
        for _ in range(3):
            check_batch(dataset.training_batch(sampler, 16), puzzle_set)


def check_batch(batch: Batch, puzzle_set: PuzzleSet) -> None:
    """Check that every number of a batch is within its bounds."""
    cells = puzzle_set.board_side**2
    for tokens in (batch.tokens_BS.numpy(), batch.labels_BS.numpy()):
        assert ((tokens >= 0) & (tokens < VOCABULARY)).all()
    assert ((batch.cells_BS.numpy() >= -1) & (batch.cells_BS.numpy() < cells)).all()
    assert np.isin(batch.puzzles_B.numpy(), np.arange(len(puzzle_set))).all()
