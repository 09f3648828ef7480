"""Rescoring: scores equal those of each candidate scored alone, and are saved like predictions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from augment import Augmentation, PuzzleSet, open_puzzle_set, write_puzzle_set
from pipeline.checkpoints.load_model import load_model
from pipeline.config.run_config import PredictSettings, build_config, override
from pipeline.prediction.predict import predict
from pipeline.prediction.rescore import rescore
from solver.data.batches import PuzzleDataset
from solver.data.tokens import encode
from solver.model.config import LossName
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.deep_supervision import last_output, predict_steps
from solver.training.loss import log_probabilities, stablemax_cross_entropy
from submissions import Predictions, read_predictions, vote
from submissions.grid_table import collect_grids
from tests.helpers.predictions import Notes, crash_after
from tests.helpers.resume import Crash
from tests.helpers.untrained import MODEL, make_checkpoint, make_set

BEST = 3


@pytest.fixture(scope="module")
def puzzle_set(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    folder = tmp_path_factory.mktemp("sets") / "set"
    write_puzzle_set(make_set(augmentations=15, max_side=9, limit=4), folder)
    return open_puzzle_set(folder)


def answer(puzzle_set: PuzzleSet, folder: Path, **settings: Any) -> None:
    predict(make_checkpoint(puzzle_set), puzzle_set, PredictSettings(**settings), folder, Notes())


def score(puzzle_set: PuzzleSet, folder: Path, best: int = BEST, **settings: Any) -> Notes:
    notes = Notes()
    chosen = PredictSettings(rescore=best, **settings)
    rescore(make_checkpoint(puzzle_set), puzzle_set, chosen, folder, notes)
    return notes


@pytest.fixture(scope="module")
def scored(one_cut_off: None, puzzle_set: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the test inputs asked again on the whole board."""
    folder = tmp_path_factory.mktemp("predictions") / "out"
    answer(puzzle_set, folder, trajectories=2, noise=0.3)
    score(puzzle_set, folder)
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_cut_off() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.prediction.predict.find_cut_off", lambda *_: {(1, 0)})
        yield


def best_of(
    predictions: Predictions, puzzle_set: PuzzleSet, best: int = BEST
) -> dict[tuple[str, int], list[np.ndarray]]:
    ballot = vote(predictions, puzzle_set.tasks)
    return {
        (task.id, test): [candidate.grid for candidate in ballot[task.id][test][:best]]
        for task in puzzle_set.tasks
        for test in range(len(task.tests))
    }


def plain_log_prob(logits_SV: torch.Tensor, grid: np.ndarray, shape: tuple[int, int]) -> float:
    """Minus the training loss, summed, of the grid as the label of a canvas."""
    if grid.shape[0] > shape[0] or grid.shape[1] > shape[1]:
        return -np.inf
    labels = torch.from_numpy(encode(grid)[: shape[0], : shape[1]].astype(np.int64).ravel())
    losses = stablemax_cross_entropy(logits_SV[: labels.numel()], labels)
    return -float(losses[labels != 0].sum())


def test_scores_are_those_of_each_candidate_by_itself(puzzle_set: PuzzleSet, scored: Path) -> None:
    made, checkpoint = read_predictions(scored), make_checkpoint(puzzle_set)
    assert made.scores is not None
    boards = {(made.tasks[task], int(test)) for task, test, board in zip(
        made.answers.task, made.answers.test, made.answers.board, strict=True
    ) if board}  # fmt: skip
    model, table = RecursiveModel(MODEL), PuzzleEmbedding(len(puzzle_set), MODEL.id_length)
    model.load_state_dict(checkpoint.weights)
    table.weights_PI.copy_(checkpoint.id_rows)
    given = {
        (made.tasks[task], test, augmentation, grid): log_prob
        for task, test, augmentation, grid, log_prob in zip(
            *(getattr(made.scores, name).tolist() for name in vars(made.scores)), strict=True
        )
    }
    numbers = {grid_id: number for number, grid_id in enumerate(made.grids.ids.tolist())}
    expected, shapes = {}, set()
    for (task, test), grids in best_of(made, puzzle_set).items():
        place = [each.id for each in puzzle_set.tasks].index(task)
        examples = PuzzleDataset(puzzle_set, "full" if (task, test) in boards else "task")
        for puzzle in range(puzzle_set.starts[place], puzzle_set.starts[place + 1]):
            one, pair = np.array([puzzle]), np.array([examples.trained[place] + test])
            logits = last_output(predict_steps(model, table, examples.render(one, pair))).logits_BCV[0]
            augmentation = Augmentation.from_number(int(puzzle_set.augmentations[puzzle]))
            shape = tuple(examples.canvas_sizes(one)[0].tolist())
            shapes.add(shape)
            for grid in grids:
                key = task, test, augmentation.number, numbers[id_of(grid)]
                expected[key] = plain_log_prob(logits, augmentation.apply(grid), shape)
    assert given.keys() == expected.keys()
    np.testing.assert_allclose([given[key] for key in expected], list(expected.values()), rtol=1e-4)
    assert (MODEL.board_side,) * 2 in shapes
    assert len(shapes) > 1


def id_of(grid: np.ndarray) -> int:
    different, _ = collect_grids([grid])
    return int(different.ids[0])


def test_the_product_ranks_by_them(puzzle_set: PuzzleSet, scored: Path) -> None:
    made = read_predictions(scored)
    assert made.scores is not None
    for task, inputs in vote(made, puzzle_set.tasks, "product").items():
        for test, ranked in enumerate(inputs):
            means = []
            for candidate in ranked[:BEST]:
                number = made.grids.ids.tolist().index(id_of(candidate.grid))
                own = (made.scores.grid == number) & (made.scores.test == test)
                own &= made.scores.task == made.tasks.index(task)
                means.append(made.scores.log_prob[own].mean(dtype=np.float64))
            assert means == sorted(means, reverse=True)
            assert len(means) == min(BEST, len(ranked))


def test_it_is_not_done_twice_and_more_candidates_are_scored_anew(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(puzzle_set, tmp_path / "out", second_pass=False)
    score(puzzle_set, tmp_path / "out", 2)
    before = (tmp_path / "out" / "scores.parquet").read_bytes()
    assert score(puzzle_set, tmp_path / "out", 1).said("already rescored")
    assert score(puzzle_set, tmp_path / "out", 2).said("already rescored")
    with monkeypatch.context() as patch:
        crash_after(1, patch)
        with pytest.raises(Crash):
            score(puzzle_set, tmp_path / "out", 4)
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == before
    assert score(puzzle_set, tmp_path / "out", 4).said("1 parts were made before")
    whole = tmp_path / "whole"
    answer(puzzle_set, whole, second_pass=False)
    score(puzzle_set, whole, 4)
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == (whole / "scores.parquet").read_bytes()
    assert not (tmp_path / "out.scores.parts").exists()


def test_predictions_of_another_checkpoint_are_refused(puzzle_set: PuzzleSet, scored: Path) -> None:
    other = make_checkpoint(puzzle_set, seed=1)
    with pytest.raises(ValueError, match=r"predicted with other weights; rescore it with the --checkpoint"):
        rescore(other, puzzle_set, PredictSettings(rescore=2), scored, Notes())


def test_the_other_files_stay_as_they_are(puzzle_set: PuzzleSet, scored: Path, tmp_path: Path) -> None:
    answer(puzzle_set, tmp_path / "out", trajectories=2, noise=0.3)
    for name in ("answers.parquet", "grids.parquet", "recursion.parquet"):
        assert_array_equal((tmp_path / "out" / name).read_bytes(), (scored / name).read_bytes())


def test_answers_that_are_no_grids_leave_nothing_to_score(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = RecursiveModel.forward

    def blank(*arguments: Any, **options: Any) -> Output:
        output = forward(*arguments, **options)
        output.logits_BCV[..., 0] = 1e9
        return output

    monkeypatch.setattr(RecursiveModel, "forward", blank)
    answer(puzzle_set, tmp_path / "out", second_pass=False)
    score(puzzle_set, tmp_path / "out")
    made = read_predictions(tmp_path / "out")
    assert made.malformed == 1
    assert made.scores is not None
    assert len(made.scores) == 0


@pytest.mark.parametrize("loss", ["stablemax", "softmax"])
def test_log_probabilities_follow_the_loss_of_the_checkpoint(
    puzzle_set: PuzzleSet, tmp_path: Path, loss: LossName
) -> None:
    """Those recorded with an answer and those of rescored candidates, of one test input each."""
    checkpoint = make_checkpoint(puzzle_set)
    config = override(build_config(checkpoint.config), {"train.loss": loss}).model_dump(mode="json")
    trained, folder = replace(checkpoint, config=config), tmp_path / "out"
    chosen = PredictSettings(augmentations=0, second_pass=False, rescore=1)
    predict(trained, puzzle_set, chosen, folder, Notes())
    rescore(trained, puzzle_set, chosen, folder, Notes())
    made = read_predictions(folder)
    assert made.scores is not None
    model, table = load_model(trained, puzzle_set)
    examples = PuzzleDataset(puzzle_set, "task")
    place = int(made.scores.task[0])
    task = [each.id for each in puzzle_set.tasks].index(made.tasks[place])
    one = puzzle_set.starts[task : task + 1]
    pair = np.array([examples.trained[task] + int(made.scores.test[0])])
    logits = last_output(predict_steps(model, table, examples.render(one, pair))).logits_BCV[0]
    grid = made.grids[made.scores.grid[0]]
    rows, columns = examples.canvas_sizes(one)[0].tolist()
    labels = torch.from_numpy(encode(grid, 30)[:rows, :columns].astype(np.int64).ravel())
    logs = log_probabilities(logits[: labels.numel()], labels[:, None], loss)[:, 0]
    assert float(made.scores.log_prob[0]) == pytest.approx(float(logs[labels != 0].sum()), abs=1e-3)
    answers = made.answers
    (row,) = np.flatnonzero((answers.task == place) & (answers.test == made.scores.test[0]))
    mean = float(made.scores.log_prob[0]) / int((labels != 0).sum())
    assert float(answers.log_prob[row]) == pytest.approx(mean, abs=1e-4)
