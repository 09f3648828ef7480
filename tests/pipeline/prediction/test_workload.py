"""The workload: every query exactly once, in parts that are the same for any number of processes."""

import numpy as np
import pytest

from augment import PuzzleSet
from pipeline.prediction.workload import FEWEST_ROWS, Queries, Workload
from tests.helpers.untrained import make_set


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    """Canvases of three widths."""
    return make_set(augmentations=7, max_side=11, limit=40)


def rows_of(parts: list[Queries]) -> list[tuple[int, int, int]]:
    return [
        row
        for part in parts
        for row in zip(*(x.tolist() for x in (part.puzzles, part.pairs, part.trajectories)), strict=True)
    ]


@pytest.mark.parametrize("trajectories", [1, 3])
@pytest.mark.parametrize("processes", [1, 2, 4, 7])
def test_every_input_and_augmentation_is_asked_exactly_once(
    puzzle_set: PuzzleSet, processes: int, trajectories: int
) -> None:
    parts = Workload(puzzle_set, "task", trajectories=trajectories).ask_all()
    shares = [parts[index::processes] for index in range(processes)]
    asked = [row for share in shares for row in rows_of(share)]
    expected = {
        (puzzle, len(task.demonstrations) + test, trajectory)
        for number, task in enumerate(puzzle_set.tasks)
        for puzzle in range(puzzle_set.starts[number], puzzle_set.starts[number + 1])
        for test in range(len(task.tests))
        for trajectory in range(trajectories)
    }
    assert len(asked) == len(expected)
    assert set(asked) == expected
    assert all(shares), "each process has something to do"


def test_fewer_augmentations_are_the_first_ones(puzzle_set: PuzzleSet) -> None:
    asked = Workload(puzzle_set, "task", augmentations=2)
    places = asked.puzzles - puzzle_set.starts[asked.examples.tasks[asked.puzzles]]
    assert set(places.tolist()) == {0, 1, 2}


def test_parts_have_one_width_each_and_the_widest_come_first(puzzle_set: PuzzleSet) -> None:
    questions, found = Workload(puzzle_set, "task"), []
    parts = questions.ask_all()
    for part in parts:
        assert 0 < len(part) <= FEWEST_ROWS
        (width,) = set(questions.examples.widths(part.puzzles).tolist())
        assert questions.examples_of(part).render(part.puzzles, part.pairs).cells_BS.shape[1] == width
        found.append(width)
    cells = [size for part in parts for size in questions.examples.canvas_sizes(part.puzzles).prod(axis=1).tolist()]
    assert cells == sorted(cells, reverse=True)
    assert found == sorted(found, reverse=True)
    assert len(set(found)) >= 3


def test_rows_of_a_task_keep_the_order_that_settles_ties(puzzle_set: PuzzleSet) -> None:
    """Test input, then puzzle, then trajectory; nothing of another task between them."""
    questions = Workload(puzzle_set, "task", trajectories=2)
    rows = rows_of(questions.ask_all())
    tasks = questions.examples.tasks[[puzzle for puzzle, _, _ in rows]]
    assert (np.diff(tasks) != 0).sum() == len(puzzle_set.tasks) - 1
    for task in range(len(puzzle_set.tasks)):
        own = [
            (pair, puzzle, trajectory) for (puzzle, pair, trajectory), of in zip(rows, tasks, strict=True) if of == task
        ]
        assert own == sorted(own)


def test_asking_again_is_on_the_whole_board(puzzle_set: PuzzleSet) -> None:
    questions = Workload(puzzle_set, "task")
    task = next(place for place, task in enumerate(puzzle_set.tasks) if len(task.tests) > 1)
    (part,) = questions.ask_for({(task, 1)}, board=True)
    places, tests = questions.inputs_of(part.puzzles, part.pairs)
    assert (set(places.tolist()), set(tests.tolist())) == ({task}, {1})
    assert len(part) == puzzle_set.starts[task + 1] - puzzle_set.starts[task]
    batch = questions.examples_of(part).render(part.puzzles, part.pairs)
    assert batch.cells_BS.shape == (len(part), 144)
    assert (batch.cells_BS >= 0).all()
    assert questions.ask_for(set(), board=True) == []


def test_nothing_is_cut_off_on_the_whole_board(puzzle_set: PuzzleSet) -> None:
    assert Workload(puzzle_set, "task").may_be_cut_off()
    assert not Workload(puzzle_set, "full").may_be_cut_off()
