"""Mazes: unique shortest paths, and checking solutions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from augment.logic_puzzles.maze import (
    FREE,
    GOAL,
    PATH,
    SIDES,
    START,
    WALL,
    canonical_form,
    count_steps,
    draw_maze,
    is_solution,
    least_steps,
)
from augment.logic_puzzles.symmetry import turn_cells

SQUARE = np.array([[START, FREE, WALL], [FREE, FREE, FREE], [WALL, FREE, GOAL]], np.uint8)


@settings(max_examples=40)
@given(st.sampled_from(SIDES), st.integers(0, 2**32))
def test_drawn_mazes_have_one_shortest_path_of_some_length(side: int, seed: int) -> None:
    maze, answer = draw_maze(side, np.random.default_rng(seed))
    assert is_solution(maze, answer)
    assert count_steps(maze) == (answer == PATH).sum() + 1 >= least_steps(side)
    assert ((maze == START).sum(), (maze == GOAL).sum()) == (1, 1)
    # Blocking any cell of the only shortest path makes the path longer or impossible.
    for place in np.flatnonzero(answer == PATH)[::7]:
        blocked = maze.copy()
        blocked.ravel()[place] = WALL
        assert count_steps(blocked) == -1 or count_steps(blocked) > count_steps(maze)


def test_maze_hard_has_paths_of_110_steps() -> None:
    assert least_steps(30) == 110
    assert least_steps(10) == 12


def test_only_shortest_paths_are_answers() -> None:
    good = SQUARE.copy()
    good[[0, 1, 1], [1, 1, 2]] = PATH
    assert is_solution(SQUARE, good)
    other = SQUARE.copy()
    other[[1, 1, 2], [0, 1, 1]] = PATH
    assert is_solution(SQUARE, other), "another path of the same length"
    for change in ({(1, 2): FREE}, {(1, 0): PATH}, {(0, 2): PATH}, {(0, 0): PATH}, {(2, 2): FREE}):
        wrong = good.copy()
        for place, value in change.items():
            wrong[place] = value
        assert not is_solution(SQUARE, wrong), change


def test_a_detour_is_not_an_answer() -> None:
    """Start and goal are neighbours; the path through the other cells is not a shortest one."""
    maze = np.array([[START, FREE], [GOAL, FREE]], np.uint8)
    assert is_solution(maze, maze)
    assert not is_solution(maze, np.array([[START, PATH], [GOAL, PATH]], np.uint8))


def test_a_maze_has_one_start_and_one_goal() -> None:
    for maze in ([[START, START], [GOAL, FREE]], [[FREE, FREE], [GOAL, FREE]], [[START, FREE], [FREE, FREE]]):
        grid = np.array(maze, np.uint8)
        assert not is_solution(grid, grid)


def test_rotated_mazes_have_the_same_canonical_form() -> None:
    maze, _ = draw_maze(7, np.random.default_rng(3))
    other, _ = draw_maze(7, np.random.default_rng(4))
    turns = turn_cells(7)
    forms = {canonical_form(np.rot90(grid, turn).copy(), turns) for grid in (maze, maze.T) for turn in range(4)}
    assert forms == {canonical_form(maze, turns)}
    assert canonical_form(other, turns) not in forms


def test_a_maze_without_a_path_has_minus_one_steps() -> None:
    assert count_steps(np.array([[START, WALL], [WALL, GOAL]], np.uint8)) == -1
