"""Mazes: a generator with one shortest path from start to goal, and the check of a path.

A maze is a grid of the colours below; the answer is the maze with the steps between start and goal marked.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.grid import Grid

FREE, WALL, START, GOAL, PATH = range(5)

SIDES = range(5, 31)
LONGEST_PUBLISHED = 110, 30
"""Maze-Hard's shortest paths have at least so many steps, at this side."""

OPENED = 0.04
"""Share of the inner walls that are opened, so that there is more than one way."""

TRIES = 200


def least_steps(side: int) -> int:
    """The shortest path has at least so many steps: Maze-Hard's 110 in proportion to the area."""
    steps, published = LONGEST_PUBLISHED
    return max(3, round(steps * side**2 / published**2))


def draw_maze(side: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """A maze and its answer: a random spanning tree of corridors, some walls opened, start and goal far apart.

    The shortest path is the only one of its length, so that an answer is right or wrong.
    """
    while True:
        cells = _carve(side, rng.integers(2), rng.integers(2), rng.random((side**2, 4)))
        walls = np.flatnonzero((cells == WALL).ravel())
        cells.ravel()[rng.choice(walls, int(OPENED * len(walls)), replace=False)] = FREE
        free = np.flatnonzero((cells == FREE).ravel())
        for start in rng.permutation(free)[:TRIES]:
            distance, ways = _explore(cells, start)
            far = free[(distance[free] >= least_steps(side)) & (ways[free] == 1)]
            if len(far):
                return _mark(cells, start, rng.choice(far), distance)


def is_answer(maze: Grid, answer: Grid) -> bool:
    """Whether the answer is the maze with a shortest path from start to goal marked, and nothing else.

    A maze has one start and one goal; else nothing is its answer.
    """
    path = answer == PATH
    if any((maze == end).sum() != 1 for end in (START, GOAL)):
        return False
    if (np.where(path, FREE, answer) != maze).any() or (maze[path] != FREE).any():
        return False
    (start,), (goal,) = (np.flatnonzero(maze.ravel() == end) for end in (START, GOAL))
    distance, _ = _explore(np.where(maze == WALL, WALL, FREE).astype(np.uint8), start)
    marked = np.where(path | (maze == START) | (maze == GOAL), FREE, WALL).astype(np.uint8)
    reached, _ = _explore(marked, start)
    return bool(reached[goal] == distance[goal] > 0 and path.sum() == distance[goal] - 1)


def are_answers(mazes: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`is_answer` of each (mazes, side, side)."""
    return np.array([is_answer(*pair) for pair in zip(mazes, answers, strict=True)], np.bool_)


def canonical_form(maze: Grid, turns: NDArray[np.int64]) -> bytes:
    """The same for two mazes that are alike but for a turn or a reflection; turns: `symmetry.turn_cells`."""
    return min(map(np.ndarray.tobytes, maze.ravel()[turns]))


def count_steps(maze: Grid) -> int:
    """Length of the shortest path from start to goal, -1 where there is none."""
    (start,), (goal,) = (np.flatnonzero(maze.ravel() == end) for end in (START, GOAL))
    return int(_explore(np.where(maze == WALL, WALL, FREE).astype(np.uint8), start)[0][goal])


def _mark(cells: Grid, start: int, goal: int, distance: np.ndarray) -> tuple[Grid, Grid]:
    """The maze with its ends, and with the path from the goal back to the start."""
    maze = cells.copy()
    maze.ravel()[[start, goal]] = START, GOAL
    answer = maze.copy()
    place = goal
    while distance[place] > 1:
        place = next(other for other in _neighbours(place, len(cells)) if distance[other] == distance[place] - 1)
        answer.ravel()[place] = PATH
    return maze, answer


def _neighbours(place: int, side: int) -> list[int]:
    row, column = divmod(int(place), side)
    around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return [r * side + c for r, c in around if 0 <= r < side and 0 <= c < side]


@njit(cache=True)
def _carve(side, top, left, chances):
    """Corridors of a random depth-first walk over every second cell from (top, left)."""
    cells = np.full((side, side), WALL, np.uint8)
    stack = np.empty((side * side, 2), np.int64)
    size = 1
    stack[0] = top, left
    cells[top, left] = FREE
    while size:
        row, column = stack[size - 1]
        best = -1.0
        way = -1
        for number, (down, right) in enumerate(((-2, 0), (2, 0), (0, -2), (0, 2))):
            r = row + down
            c = column + right
            if 0 <= r < side and 0 <= c < side and cells[r, c] == WALL and chances[row * side + column, number] > best:
                best = chances[row * side + column, number]
                way = number
        if way < 0:
            size -= 1
            continue
        down, right = ((-2, 0), (2, 0), (0, -2), (0, 2))[way]
        cells[row + down // 2, column + right // 2] = FREE
        cells[row + down, column + right] = FREE
        stack[size] = row + down, column + right
        size += 1
    return cells


@njit(cache=True)
def _explore(cells, start):
    """Steps from `start` to every cell (-1: never), and in how many shortest ways (at most 2)."""
    side = len(cells)
    distance = np.full(side * side, -1, np.int64)
    ways = np.zeros(side * side, np.int64)
    queue = np.empty(side * side, np.int64)
    size = 1
    done = 0
    queue[0] = start
    distance[start] = 0
    ways[start] = 1
    while done < size:
        place = queue[done]
        done += 1
        row = place // side
        column = place % side
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            r = row + down
            c = column + right
            if 0 <= r < side and 0 <= c < side and cells[r, c] != WALL:
                other = r * side + c
                if distance[other] < 0:
                    distance[other] = distance[place] + 1
                    queue[size] = other
                    size += 1
                if distance[other] == distance[place] + 1:
                    ways[other] = min(2, ways[other] + ways[place])
    return distance, ways
