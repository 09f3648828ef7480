"""The second pass: outputs that may be cut off by their canvas are predicted again on the whole board."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

from augment import PuzzleSet
from pipeline.config.run_config import PredictSettings
from pipeline.prediction.predict import predict
from pipeline.prediction.workload import Workload
from solver.model.model import RecursiveModel
from solver.model.output import Output
from submissions import vote
from tests.helpers.predictions import Notes, ask, count_answered, crash_after, same_files, stored_set
from tests.helpers.resume import Crash
from tests.helpers.untrained import MODEL, make_checkpoint


@pytest.fixture(scope="module")
def puzzle_set(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    return stored_set(tmp_path_factory.mktemp("sets") / "set")


def fill_canvas(puzzle_set: PuzzleSet, shares: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model answers a cell of red; for that share of each of these tasks' puzzles, blue all over the canvas."""
    filled = [
        puzzle
        for number, task in enumerate(puzzle_set.tasks)
        for puzzle in range(puzzle_set.starts[number], puzzle_set.starts[number + 1])
        if puzzle - puzzle_set.starts[number]
        < shares.get(task.id, 0) * (puzzle_set.starts[number + 1] - puzzle_set.starts[number])
    ]
    forward = RecursiveModel.forward

    def patched(model: RecursiveModel, latents: Any, batch: Any, *rest: Any, **more: Any) -> Output:
        output = forward(model, latents, batch, *rest, **more)
        rows = torch.isin(batch.puzzles_B, torch.tensor(filled))
        output.logits_BCV[:] = 0
        output.logits_BCV[rows, :, 3] = 1
        output.logits_BCV[~rows, 0, 4] = 1
        output.logits_BCV[~rows, 1:, 1] = 1
        return output

    monkeypatch.setattr(RecursiveModel, "forward", patched)


@pytest.fixture
def two(puzzle_set: PuzzleSet) -> tuple[str, str]:
    """Two tasks."""
    return puzzle_set.tasks[1].id, puzzle_set.tasks[4].id


def test_what_may_be_cut_off_is_asked_again_on_the_whole_board(
    puzzle_set: PuzzleSet, two: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_canvas(puzzle_set, {two[0]: 0.9, two[1]: 0.1}, monkeypatch)
    notes = Notes()
    made = ask(puzzle_set, tmp_path / "out", notes, second_pass=True)
    (task,) = (task for task in puzzle_set.tasks if task.id == two[0])
    assert made.metadata["second_pass"] == {two[0]: list(range(len(task.tests)))}
    assert notes.said(f"{len(task.tests)} test inputs may have outputs larger than their canvas")
    asked = ask(puzzle_set, tmp_path / "off").answers
    place = made.tasks.index(two[0])
    first, second = made.answers.take(~made.answers.board), made.answers.take(made.answers.board)
    assert_array_equal(first.halt_logit, asked.halt_logit)
    assert set(second.task.tolist()) == {place}
    own = first.take(first.task == place)
    for name in ("test", "augmentation", "trajectory", "step"):
        assert_array_equal(getattr(second, name), getattr(own, name))
    assert not second.edge.any()
    best = vote(made, [task])[task.id][0][0]
    assert best.grid.shape == (12, 12), "its first answers no longer count"
    assert made.recursions[two[0], 0].answer.shape == (3, 12, 12)
    assert made.recursions[two[1], 0].answer.shape[1:] < (12, 12)
    assert list(made.recursions).count((two[0], 0)) == 1


def test_a_model_that_draws_no_end_marks_is_not_asked_again(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_canvas(puzzle_set, {task.id: 1.0 for task in puzzle_set.tasks}, monkeypatch)
    monkeypatch.setattr("pipeline.prediction.predict.FEW_INPUTS", 0)
    notes = Notes()
    made = ask(puzzle_set, tmp_path / "out", notes, second_pass=True)
    total = sum(len(task.tests) for task in puzzle_set.tasks)
    assert notes.said(f"{total} of {total} test inputs have predictions without end marks")
    assert not made.answers.board.any()
    assert made.metadata["second_pass"] == {}


def test_a_stage_killed_in_the_second_pass_goes_on(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_canvas(puzzle_set, {task.id: 1.0 for task in puzzle_set.tasks[:4]}, monkeypatch)
    ask(puzzle_set, tmp_path / "whole", second_pass=True)
    first = Workload(puzzle_set, "task").ask_all()
    with monkeypatch.context() as patch:
        crash_after(len(first) + 1, patch)
        with pytest.raises(Crash):
            ask(puzzle_set, tmp_path / "out", second_pass=True)
    rows = count_answered(monkeypatch)
    ask(puzzle_set, tmp_path / "out", second_pass=True)
    assert 0 < sum(rows) < 4 * 24, "only of the second pass"
    same_files(tmp_path / "out", tmp_path / "whole")


def test_whole_boards_are_not_asked_again(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_canvas(puzzle_set, {task.id: 1.0 for task in puzzle_set.tasks}, monkeypatch)
    checkpoint = make_checkpoint(puzzle_set, replace(MODEL, canvas="full", max_steps=1))
    made = predict(checkpoint, puzzle_set, PredictSettings(augmentations=0), tmp_path / "out", Notes())
    assert made.metadata["second_pass"] == {}
    assert not made.answers.edge.any()


# Time and processes.
