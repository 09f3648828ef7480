"""N-Queens: enumeration of solutions, distinct puzzles, and tests with several solutions."""

from itertools import permutations

import numpy as np
import pytest

from augment import SourceError
from augment.contamination import input_look
from augment.logic_puzzles.nqueens import SIDES, are_solutions, complete, draw_puzzle, solutions
from augment.logic_puzzles.recognition import describe_logic_puzzles, is_queens
from augment.logic_puzzles.source import load_logic_puzzles


def enumerate_solutions(side: int) -> set[tuple[int, ...]]:
    """Enumerate the columns of the queens: one queen in each row and column, no two on a diagonal."""
    return {
        columns
        for columns in permutations(range(side))
        if len({row + column for row, column in enumerate(columns)}) == side
        and len({row - column for row, column in enumerate(columns)}) == side
    }


@pytest.mark.parametrize("side", [5, 6, 7])
def test_the_solutions_equal_those_of_exhaustive_enumeration(side: int) -> None:
    placements = {tuple(board.argmax(1).tolist()) for board in solutions(side)}
    assert placements == enumerate_solutions(side)
    assert (solutions(side).sum((1, 2)) == side).all()


def test_the_number_of_solutions_is_the_known_one() -> None:
    assert [len(solutions(side)) for side in SIDES] == [10, 4, 40, 92, 352, 724]


def test_complete_returns_all_solutions_of_a_puzzle_and_no_others() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        puzzle, answer = draw_puzzle(7, rng)
        assert 1 <= puzzle.sum() <= 3
        completions = complete(puzzle)
        assert (completions == answer).all((1, 2)).any()
        expected = [board for board in solutions(7) if (board[puzzle == 1] == 1).all()]
        assert len(completions) == len(expected)
        wrong = answer.copy()
        wrong[0] = np.roll(wrong[0], 1)
        puzzles = np.stack([puzzle] * 3)
        answers = np.stack([answer, wrong, np.zeros_like(answer)])
        assert are_solutions(puzzles, answers).tolist() == [True, False, False]


def test_every_solution_is_demonstrated_and_tests_have_several() -> None:
    task = load_logic_puzzles("queens-7x7/60+20@3")
    assert is_queens(task)
    inputs = {pair.input.tobytes() for pair in task.demonstrations}
    assert len(inputs) == 60
    assert len(task.demonstrations) == sum(
        len(complete(np.frombuffer(puzzle, np.uint8).reshape(7, 7))) for puzzle in inputs
    )
    assert len({pair.output.tobytes() for pair in task.demonstrations if pair.output is not None}) <= 40
    assert len(task.tests) == 20
    assert not inputs & {pair.input.tobytes() for pair in task.tests}
    assert describe_logic_puzzles(task)["solutions, least"] >= 2
    again = load_logic_puzzles("queens-7x7/60+20@3")
    assert [pair.input.tobytes() for pair in again.tests] == [pair.input.tobytes() for pair in task.tests]


def test_no_test_of_one_seed_is_a_demonstration_of_another() -> None:
    tests = {pair.input.tobytes() for pair in load_logic_puzzles("queens-7x7/60+40@1").tests}
    assert not tests & {pair.input.tobytes() for pair in load_logic_puzzles("queens-7x7/200+1@2").demonstrations}


def test_more_puzzles_than_exist_are_refused() -> None:
    with pytest.raises(
        SourceError, match="only 102 different training puzzles and 17 different test puzzles were found"
    ):
        load_logic_puzzles("queens-5x5/200+100")


def test_no_test_puzzle_is_a_turned_training_puzzle() -> None:
    tasks = [load_logic_puzzles(f"queens-7x7/{counts}") for counts in ("200+60@1", "100+40@2")]
    trained = {input_look(pair) for task in tasks for pair in task.demonstrations}
    assert not trained & {input_look(pair) for task in tasks for pair in task.tests}
