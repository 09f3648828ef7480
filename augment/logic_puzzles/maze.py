"""Generate mazes with a unique shortest path from start to goal, and check solutions.

A maze is a grid of the colours below. Its solution is the maze with the cells between start and goal marked as PATH.
"""

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid
from augment.kernels import kernel

FREE, WALL, START, GOAL, PATH = range(5)

SIDES = range(5, 31)
MINIMUM_PUBLISHED = 110, 30
"""(steps, side): the minimum length of Maze-Hard's shortest paths, and the side of its mazes."""

OPENED_WALL_SHARE = 0.04
"""Share of the wall cells that are opened, so that there is more than one route."""

TRIES = 200
"""Start cells tried in one maze before another maze is drawn."""


def least_steps(side: int) -> int:
    """Return the minimum length of the shortest path at this side: Maze-Hard's 110 in proportion to the area."""
    steps, published = MINIMUM_PUBLISHED
    return max(3, round(steps * side**2 / published**2))


def draw_maze(side: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Draw a maze and its solution, both (side, side).

    A random spanning tree of corridors is carved, some walls are opened, and start and goal are chosen far apart. The
    shortest path is the only one of its length, so that there is exactly one correct solution.
    """
    while True:
        cells = _carve(side, rng.integers(2), rng.integers(2), rng.random((side**2, 4)))
        walls = np.flatnonzero((cells == WALL).ravel())
        cells.ravel()[rng.choice(walls, int(OPENED_WALL_SHARE * len(walls)), replace=False)] = FREE
        free = np.flatnonzero((cells == FREE).ravel())
        for start in rng.permutation(free)[:TRIES]:
            distance, path_counts = _explore(cells, start)
            goals = free[(distance[free] >= least_steps(side)) & (path_counts[free] == 1)]
            if len(goals):
                return _mark(cells, start, rng.choice(goals), distance)


def is_solution(maze: Grid, answer: Grid) -> bool:
    """Return whether `answer` is the maze with a shortest path from start to goal marked, and no other change.

    Always False for a maze that does not have exactly one start and one goal.
    """
    path = answer == PATH
    if any((maze == end).sum() != 1 for end in (START, GOAL)):
        return False
    if (np.where(path, FREE, answer) != maze).any() or (maze[path] != FREE).any():
        return False
    (start,), (goal,) = (np.flatnonzero(maze.ravel() == end) for end in (START, GOAL))
    distance, _ = _explore(np.where(maze == WALL, WALL, FREE).astype(np.uint8), start)
    marked = np.where(path | (maze == START) | (maze == GOAL), FREE, WALL).astype(np.uint8)
    path_distance, _ = _explore(marked, start)
    return bool(path_distance[goal] == distance[goal] > 0 and path.sum() == distance[goal] - 1)


def are_solutions(mazes: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Apply `is_solution` to mazes and answers (n, side, side); returns (n,)."""
    return np.array([is_solution(*pair) for pair in zip(mazes, answers, strict=True)], np.bool_)


def canonical_form(maze: Grid, turns: NDArray[np.int64]) -> bytes:
    """Return the same bytes for all mazes that rotations and reflections map to each other.

    Args:
        maze: (side, side).
        turns: (8, side * side), from `symmetry.turn_cells`.
    """
    return min(map(np.ndarray.tobytes, maze.ravel()[turns]))


def count_steps(maze: Grid) -> int:
    """Return the length of the shortest path from start to goal, or -1 if there is none."""
    (start,), (goal,) = (np.flatnonzero(maze.ravel() == end) for end in (START, GOAL))
    return int(_explore(np.where(maze == WALL, WALL, FREE).astype(np.uint8), start)[0][goal])


def _mark(cells: Grid, start: int, goal: int, distance: np.ndarray) -> tuple[Grid, Grid]:
    """Return the maze with start and goal, and the same maze with the path between them marked."""
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
    neighbours = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
    return [r * side + c for r, c in neighbours if 0 <= r < side and 0 <= c < side]


@kernel()
def _carve(side, top, left, priorities):
    """Carve corridors by a random depth-first walk over every second cell from (top, left).

    Args:
        side: side of the maze.
        top: row of the first cell.
        left: column of the first cell.
        priorities: (cells, 4) random priorities of the four directions at each cell; the highest one comes first.
    """
    cells = np.full((side, side), WALL, np.uint8)
    stack = np.empty((side * side, 2), np.int64)
    size = 1
    stack[0] = top, left
    cells[top, left] = FREE
    while size:
        row, column = stack[size - 1]
        best = -1.0
        direction = -1
        for number, (down, right) in enumerate(((-2, 0), (2, 0), (0, -2), (0, 2))):
            r = row + down
            c = column + right
            if (
                0 <= r < side
                and 0 <= c < side
                and cells[r, c] == WALL
                and priorities[row * side + column, number] > best
            ):
                best = priorities[row * side + column, number]
                direction = number
        if direction < 0:
            size -= 1
            continue
        down, right = ((-2, 0), (2, 0), (0, -2), (0, 2))[direction]
        cells[row + down // 2, column + right // 2] = FREE
        cells[row + down, column + right] = FREE
        stack[size] = row + down, column + right
        size += 1
    return cells


@kernel()
def _explore(cells, start):
    """Search breadth-first from `start`.

    Returns:
        The distance to every cell (cells,), -1 if it cannot be reached, and the number of shortest paths to it
        (cells,), counted up to 2.
    """
    side = len(cells)
    distance = np.full(side * side, -1, np.int64)
    path_counts = np.zeros(side * side, np.int64)
    queue = np.empty(side * side, np.int64)
    tail = 1
    head = 0
    queue[0] = start
    distance[start] = 0
    path_counts[start] = 1
    while head < tail:
        place = queue[head]
        head += 1
        row = place // side
        column = place % side
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            r = row + down
            c = column + right
            if 0 <= r < side and 0 <= c < side and cells[r, c] != WALL:
                other = r * side + c
                if distance[other] < 0:
                    distance[other] = distance[place] + 1
                    queue[tail] = other
                    tail += 1
                if distance[other] == distance[place] + 1:
                    path_counts[other] = min(2, path_counts[other] + path_counts[place])
    return distance, path_counts
