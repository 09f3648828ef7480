"""The canvas of a task: large enough for known and predicted grids, and no larger."""

import numpy as np
import pytest

from augment import Pair, Task, load_tasks, task_canvas
from augment.canvas import fixed_width, width_shares

Shape = tuple[int, int]


def task(demonstrations: list[tuple[Shape, Shape]], tests: list[tuple[Shape, Shape | None]]) -> Task:
    def pair(shapes: tuple[Shape, Shape | None]) -> Pair:
        return Pair(*(None if shape is None else np.zeros(shape, dtype=np.uint8) for shape in shapes))  # type: ignore[arg-type]

    return Task("t", tuple(map(pair, demonstrations)), tuple(map(pair, tests)))


@pytest.mark.parametrize(
    ("demonstrations", "tests", "canvas"),
    [
        ([((2, 3), (4, 1))], [((1, 1), None)], (5, 4)),
        # Constant output size: there is no ratio, so nothing is added.
        ([((2, 2), (3, 3)), ((5, 5), (3, 3))], [((9, 9), None)], (10, 10)),
        # Ratio 3 in height and 2 in width, predicted for the test input.
        ([((2, 2), (6, 4)), ((1, 3), (3, 6))], [((4, 7), None)], (13, 15)),
        # A ratio in height only.
        ([((2, 2), (4, 3)), ((3, 3), (6, 3))], [((5, 5), None)], (11, 6)),
        # 2/3 of the input, rounded up.
        ([((3, 3), (2, 2)), ((6, 6), (4, 4))], [((7, 7), None)], (8, 8)),
        ([((2, 2), (3, 3))], [((5, 5), None)], (9, 9)),
        # Known test outputs count; hidden ones do not.
        ([((2, 2), (3, 3)), ((5, 5), (3, 3))], [((2, 2), (9, 8))], (10, 9)),
        # Without tests there is nothing to predict.
        ([((2, 2), (6, 3)), ((1, 4), (3, 6))], [], (7, 7)),
        # A board that is full has no room for an end mark, nor for a larger prediction.
        ([((30, 2), (30, 2))], [((1, 29), None)], (30, 30)),
        ([((2, 2), (6, 6))], [((20, 3), None)], (30, 10)),
    ],
)
def test_canvas(demonstrations: list, tests: list, canvas: Shape) -> None:
    assert task_canvas(task(demonstrations, tests)) == canvas


def test_a_smaller_board_caps_the_canvas_and_refuses_larger_grids() -> None:
    small = task([((4, 5), (4, 5))], [((3, 3), None)])
    assert task_canvas(small, board_side=5) == (5, 5)
    with pytest.raises(ValueError, match=r"task t has a side of 5 but the board's is 4; raise the board side"):
        task_canvas(small, board_side=4)


def test_few_outputs_of_hidden_tasks_are_larger_than_their_canvas() -> None:
    outputs = [
        (pair.output, task_canvas(task.hidden())) for task in load_tasks("arc-agi-1/evaluation") for pair in task.tests
    ]
    larger = [1 for output, canvas in outputs if output is not None and (np.array(output.shape) > canvas).any()]
    assert (len(larger), len(outputs)) == (5, 419)


def test_a_canvas_is_padded_to_the_next_fixed_width_or_the_whole_board() -> None:
    assert fixed_width(np.array([0, 1, 36, 37, 121, 677, 900])).tolist() == [36, 36, 36, 121, 121, 900, 900]
    assert fixed_width(np.array([1, 36, 37, 49]), board_side=7).tolist() == [36, 36, 49, 49]
    assert fixed_width(np.array([1, 16]), board_side=4).tolist() == [16, 16]


def test_shares_of_widths_by_hand() -> None:
    canvases = np.array([[6, 6], [3, 4], [10, 10], [30, 30]], np.uint8)
    assert width_shares(canvases) == [(36, 0.5, 24 / 36), (121, 0.25, 100 / 121), (900, 0.25, 1.0)]


def test_padding_wastes_as_little_as_stated() -> None:
    shares = width_shares(np.array([task_canvas(task) for task in load_tasks("arc-agi-2/training")], np.uint8))
    padded, used = (sum(values) for values in zip(*((w * n, w * n * u) for w, n, u in shares), strict=True))
    assert padded / used - 1 == pytest.approx(0.15, abs=0.01)
    assert 900 / used - 1 == pytest.approx(2.08, abs=0.01)
