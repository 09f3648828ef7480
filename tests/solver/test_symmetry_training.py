"""Symmetries of whole boards: puzzles stay valid, and the draws do not depend on the number of processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from augment import SourcedTasks, build_puzzle_set, load_tasks
from augment.logic_puzzles import maze, sudoku
from augment.logic_puzzles.symmetry import Symmetries
from pipeline.config.run_config import ConfigError, override
from pipeline.recipes.registry import recipe
from solver.data.batch import move_cells
from solver.data.batches import PuzzleDataset
from solver.data.tokens import COLOUR
from tests.helpers.commands import run


def make_examples(source: str, name: str, count: int = 50) -> PuzzleDataset:
    (task,) = load_tasks(source)
    side = len(task.tests[0].input)
    puzzle_set = build_puzzle_set([SourcedTasks(source, "scored", [task])], 0, 0, 1, side)
    return PuzzleDataset(puzzle_set, "full", symmetries=Symmetries(name, count, side))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sudoku-4x4/9+1", "sudoku"),
        ("sudoku-6x6/9+1", "sudoku"),
        ("sudoku-9x9/9+1", "sudoku"),
        ("maze-8x8/9+1", "dihedral"),
    ],
)
def test_examples_stay_puzzles_with_their_answers(source: str, name: str) -> None:
    examples = make_examples(source, name)
    batch = examples.training_batch(examples.sampler(3), 40, shift=False)
    side = examples.side
    check = sudoku.is_solution if name == "sudoku" else maze.is_solution
    grids = [
        (tokens - COLOUR).numpy().astype(np.uint8).reshape(-1, side, side)
        for tokens in (batch.tokens_BS, batch.labels_BS)
    ]
    assert all(check(*pair) for pair in zip(*grids, strict=True))
    assert len({grid.tobytes() for grid in grids[0]}) > 20, "they differ"


def test_parts_of_several_processes_are_the_whole_batch() -> None:
    examples = make_examples("sudoku-6x6/30+1", "sudoku")
    whole = examples.training_batch(examples.sampler(1), 11, shift=False)
    parts = [examples.training_batch(examples.sampler(1), 11, False, part) for part in (slice(0, 4), slice(4, 11))]
    assert torch.equal(torch.cat([part.tokens_BS for part in parts]), whole.tokens_BS)
    assert torch.equal(torch.cat([part.labels_BS for part in parts]), whole.labels_BS)


def test_training_goes_on_with_the_same_symmetries() -> None:
    examples = make_examples("maze-6x6/30+1", "dihedral")
    sampler = examples.sampler(2, keep_rest=True)
    again = examples.sampler(2, keep_rest=True)
    for size in (7, 3):
        examples.training_batch(sampler, size, shift=False)
    position = sampler.position
    batch = examples.training_batch(sampler, 9, shift=False)
    again.resume(position)
    assert torch.equal(examples.training_batch(again, 9, shift=False).tokens_BS, batch.tokens_BS)
    other = examples.training_batch(examples.sampler(3), 9, shift=False)
    assert not torch.equal(other.tokens_BS, batch.tokens_BS)


def test_what_is_asked_stays_as_it_is() -> None:
    """Only training examples are transformed; test inputs are rendered unchanged."""
    examples = make_examples("sudoku-4x4/3+5", "sudoku")
    batch = examples.render(*examples.test_inputs())
    (task,) = load_tasks("sudoku-4x4/3+5")
    assert (batch.tokens_BS.reshape(5, 4, 4).numpy() - COLOUR == np.stack([pair.input for pair in task.tests])).all()


def test_moving_cells_by_hand() -> None:
    examples = make_examples("sudoku-4x4/2+1", "sudoku")
    batch = examples.render(np.array([0]), np.array([0]))
    mirrored = np.arange(16)[None, ::-1].copy()
    renamed = np.array([[0, 2, 1, *range(3, 10)]])
    transformed = move_cells(batch, mirrored, renamed)
    names = {COLOUR + 1: COLOUR + 2, COLOUR + 2: COLOUR + 1}
    assert transformed.tokens_BS[0].tolist() == [names.get(token, token) for token in batch.tokens_BS[0].tolist()[::-1]]
    assert torch.equal(transformed.cells_BS, batch.cells_BS)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="a grid of task sudoku-4x4 does not fill the board of side 6"):
        make_examples("sudoku-6x6/3+1", "dihedral").__class__(
            build_puzzle_set([SourcedTasks("s", "scored", load_tasks("sudoku-4x4/3+1"))], 0, 0, 1, 6),
            "full",
            symmetries=Symmetries("dihedral", 7, 6),
        )
    whole = {"train.symmetry": "sudoku", "train.shift": False, "model.canvas": "full", "model.board_side": 9}
    assert override(recipe("smoke"), whole).train.board_symmetries(9) == Symmetries("sudoku", 1000, 9)
    for change, message in (
        ({"model.board_side": 10}, "sides 4, 6, 9; the board's is 10"),
        ({"train.shift": True}, "set train.shift=false and model.canvas=full too"),
        ({"model.canvas": "task"}, "set train.shift=false and model.canvas=full too"),
        ({"train.task_steps": 5}, "set train.task_steps=0 too"),
    ):
        with pytest.raises(ConfigError, match=message):
            override(recipe("smoke"), whole | change)


def test_a_sudoku_source_goes_the_whole_way(tmp_path: Path) -> None:
    settings = {
        "puzzles.augmentations": "0", "model.board_side": "4", "model.canvas": "full", "train.symmetry": "sudoku",
        "train.shift": "false", "train.steps": "60",
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    assert run("solve", "sudoku-4x4/50+20", "--recipe", "smoke", *options, "--run-dir", tmp_path / "run") == 0
    assert (tmp_path / "run" / "report.html").is_file()
    assert '"outputs": 20' in (tmp_path / "run" / "score.json").read_text()
