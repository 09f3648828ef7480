"""Prediction: equal predictions for any batching, after a kill, and with any recording."""

import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from augment import Augmentation, PuzzleSet
from pipeline.checkpoints.checkpoint import fingerprint
from pipeline.config.run_config import ConfigError, PredictSettings, TrainSettings, build_config
from pipeline.prediction import time_estimate
from pipeline.prediction.predict import predict
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.time_estimate import SECONDS_TO_START, estimate_prediction
from pipeline.prediction.workload import Queries, Workload
from pipeline.runtime.distributed import join_process_group
from pipeline.training.batch_size import BatchSize
from solver.data.batches import PuzzleDataset
from solver.data.tokens import decode
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.deep_supervision import last_output, predict_steps
from submissions import read_predictions
from submissions.predictions import NO_GRID
from tests.helpers.predictions import Notes, ask, count_answered, crash_after, same_answers, same_files, stored_set
from tests.helpers.resume import Crash
from tests.helpers.untrained import MODEL, make_checkpoint, make_set


@pytest.fixture(scope="module")
def puzzle_set(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    return stored_set(tmp_path_factory.mktemp("sets") / "set")


@pytest.fixture(scope="module")
def plain(puzzle_set: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions that nothing happened to."""
    folder = tmp_path_factory.mktemp("predictions") / "plain"
    ask(puzzle_set, folder)
    return folder


def test_every_answer_is_what_the_model_says_to_that_example_alone(puzzle_set: PuzzleSet, plain: Path) -> None:
    made, checkpoint = read_predictions(plain), make_checkpoint(puzzle_set)
    model = RecursiveModel(MODEL)
    model.load_state_dict(checkpoint.weights)
    table = PuzzleEmbedding(len(puzzle_set), MODEL.id_length)
    table.weights_PI.copy_(checkpoint.id_rows)
    examples = PuzzleDataset(puzzle_set, "task")
    assert len(made.answers) == len(examples.test_inputs()[0])
    keys = {key: row for row, key in enumerate(puzzle_set.keys())}
    answers, found = made.answers, 0
    for row in range(0, len(answers), 13):
        task, augmentation = made.tasks[answers.task[row]], Augmentation.from_number(int(answers.augmentation[row]))
        puzzle = keys[task if augmentation.number == 0 else f"{task}|||{augmentation.name}"]
        pair = int(examples.trained[examples.tasks[puzzle]] + answers.test[row])
        one = np.array([puzzle])
        output = last_output(predict_steps(model, table, examples.render(one, np.array([pair])), 3))
        height, width = examples.canvas_sizes(one)[0]
        grid = decode(output.logits_BCV[0, : height * width].argmax(-1).view(height, width).numpy().astype(np.uint8))
        assert (answers.grid[row] == NO_GRID) == (grid is None)
        if grid is not None:
            assert made.grids[answers.grid[row]].tolist() == augmentation.invert(grid).tolist()
            found += 1
        assert float(output.halt_B[0]) == pytest.approx(float(answers.halt_logit[row]), abs=1e-4)
    assert found >= 5


def test_what_was_made_is_kept_and_what_differs_is_made_again(puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    notes = Notes()
    ask(puzzle_set, tmp_path / "out", augmentations=1)
    ask(puzzle_set, tmp_path / "out", notes, augmentations=1, ranker="confidence", batch_size=1)
    assert notes.said("already made"), "how candidates are ranked does not change the answers"
    ask(puzzle_set, tmp_path / "out", notes := Notes(), augmentations=2)
    assert not notes.said("already made")
    other = make_checkpoint(puzzle_set, seed=1)
    predict(other, puzzle_set, PredictSettings(augmentations=2, second_pass=False), tmp_path / "out", notes := Notes())
    assert not notes.said("already made"), "another checkpoint of the same step is another one"
    (tmp_path / "out" / "grids.parquet").write_bytes(b"")
    predict(other, puzzle_set, PredictSettings(augmentations=2, second_pass=False), tmp_path / "out", notes := Notes())
    assert notes.said("grids.parquet is missing, cut short or altered; it is made again")
    assert read_predictions(tmp_path / "out").metadata["augmentations"] == 2


# Kills, damage and memory.


def test_a_killed_stage_makes_only_what_is_missing(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    for before in (2, 1):
        with monkeypatch.context() as patch:
            crash_after(before, patch)
            rows = count_answered(patch)
            with pytest.raises(Crash):
                ask(puzzle_set, tmp_path / "out")
            done += rows[:-1]  # the last one was not written
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patch:
        rows, notes = count_answered(patch), Notes()
        ask(puzzle_set, tmp_path / "out", notes)
    assert notes.said("3 parts were made before")
    assert sum(done) + sum(rows) == len(read_predictions(plain).answers)
    same_files(tmp_path / "out", plain)
    assert not (tmp_path / "out.parts").exists()


def test_a_kill_while_parts_are_joined_loses_nothing(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.prediction.predict.join_shards", crash)
        with pytest.raises(Crash):
            ask(puzzle_set, tmp_path / "out")
    with monkeypatch.context() as patch:
        rows = count_answered(patch)
        ask(puzzle_set, tmp_path / "out")
    assert rows == []
    same_files(tmp_path / "out", plain)


def test_damaged_parts_are_made_again(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        crash_after(4, patch)
        with pytest.raises(Crash):
            ask(puzzle_set, tmp_path / "out")
    folder = tmp_path / "out.parts"
    (folder / "000001.answers.parquet").write_bytes((folder / "000001.answers.parquet").read_bytes()[:200])
    (folder / "000002.grids.parquet").unlink()
    notes = Notes()
    ask(puzzle_set, tmp_path / "out", notes)
    assert notes.said("part 1 is damaged")
    assert notes.said("part 2 is damaged")
    same_files(tmp_path / "out", plain)


@pytest.mark.parametrize("harm", ["another checkpoint", "other settings", "no parts.json", "a damaged parts.json"])
def test_parts_of_something_else_are_removed(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    checkpoint = make_checkpoint(puzzle_set, seed=int(harm == "another checkpoint"))
    settings = PredictSettings(steps=2 if harm == "other settings" else None, second_pass=False)
    with monkeypatch.context() as patch:
        crash_after(3, patch)
        with pytest.raises(Crash):
            predict(checkpoint, puzzle_set, settings, tmp_path / "out", Notes())
    about = tmp_path / "out.parts" / "parts.json"
    if harm == "no parts.json":
        about.unlink()
    if harm == "a damaged parts.json":
        about.write_text(about.read_text()[:-5])
    notes = Notes()
    ask(puzzle_set, tmp_path / "out", notes)
    assert notes.said("its parts were made from other inputs or are damaged")
    same_files(tmp_path / "out", plain)


def test_a_batch_that_runs_out_of_memory_is_made_smaller_and_answers_the_same(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = RecursiveModel.forward

    def small(model: RecursiveModel, latents: Any, batch: Any, *rest: Any, **more: Any) -> Output:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return forward(model, latents, batch, *rest, **more)

    monkeypatch.setattr(RecursiveModel, "forward", small)
    notes = Notes()
    made = ask(puzzle_set, tmp_path / "out", notes)
    assert notes.said("a batch did not fit in memory: from now on at most")
    same_answers(made, read_predictions(plain))


def test_no_more_than_three_batches_are_in_memory(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, alive, most = Predictor.compute, weakref.WeakSet(), []

    def patched(predictor: Predictor, asked: Any) -> Any:
        computed = compute(predictor, asked)
        alive.add(computed)
        most.append(len(alive))
        return computed

    monkeypatch.setattr(Predictor, "compute", patched)
    ask(puzzle_set, tmp_path / "out", augmentations=7, batch_size=1)
    assert len(most) > 10
    assert max(most) <= 3, "the one just computed, one that is decoded and one that waits for that"


# What is recorded.


def test_all_steps_hold_the_last_one_and_those_before(puzzle_set: PuzzleSet, plain: Path, tmp_path: Path) -> None:
    last, every = read_predictions(plain), ask(puzzle_set, tmp_path / "all", record="all")
    answers = every.answers
    assert answers.step.tolist() == [1, 2, 3] * len(last.answers)
    assert_array_equal(answers.last, answers.step == 3)
    kept = answers.take(answers.last)
    for name in ("task", "test", "augmentation", "step", "log_prob", "halt_logit"):
        assert_array_equal(getattr(kept, name), getattr(last.answers, name))
    assert_array_equal(every.grids.ids[kept.grid], last.grids.ids[last.answers.grid])
    earlier = predict(
        make_checkpoint(puzzle_set), puzzle_set, PredictSettings(steps=2, second_pass=False), tmp_path / "two", Notes()
    ).answers
    assert_array_equal(answers.take(answers.step == 2).halt_logit, earlier.halt_logit)


def test_trajectories_differ_and_are_the_same_the_next_time(puzzle_set: PuzzleSet, plain: Path, tmp_path: Path) -> None:
    noisy = {"trajectories": 3, "noise": 0.2, "augmentations": 7}
    one, other = (ask(puzzle_set, tmp_path / name, **noisy, batch_size=size) for name, size in (("a", 1), ("b", 2)))
    same_answers(one, other)
    halts = one.answers.halt_logit.reshape(-1, 3)
    assert_array_equal(one.answers.trajectory, np.tile([0, 1, 2], len(halts)))
    without = ask(puzzle_set, tmp_path / "c", augmentations=7).answers.halt_logit[:, None]
    together = np.concatenate([halts, without], axis=1)
    assert (np.diff(np.sort(together, axis=1), axis=1) > 0).all(), "each has noise of its own, the first one too"
    assert one.metadata["trajectories"] == 3
    seeded = replace(checkpoint := make_checkpoint(puzzle_set), config=checkpoint.config | {"seed": 1})
    third = predict(seeded, puzzle_set, PredictSettings(**noisy, second_pass=False), tmp_path / "d", Notes())
    assert (third.answers.halt_logit != one.answers.halt_logit).all()


def test_trajectories_without_noise_are_refused() -> None:
    values = build_config(make_checkpoint(make_set(1, limit=1)).config).model_dump()
    values["predict"]["trajectories"] = 5
    with pytest.raises(ConfigError, match="set noise too"):
        build_config(values)


def test_the_recursion_of_every_test_input_is_kept(puzzle_set: PuzzleSet, plain: Path) -> None:
    made = read_predictions(plain)
    asked = {(task.id, test) for task in puzzle_set.tasks for test in range(len(task.tests))}
    assert made.recursions.keys() == asked
    unchanged = made.answers.take(made.answers.augmentation == 0)
    for row in range(len(unchanged)):
        task, test = made.tasks[unchanged.task[row]], int(unchanged.test[row])
        shown = made.recursions[task, test]
        canvas = puzzle_set.canvases[[each.id for each in puzzle_set.tasks].index(task)]
        assert shown.answer.shape == shown.reasoning.shape == (3, *canvas)
        grid = decode(shown.answer[-1])
        number = unchanged.grid[row]
        assert (grid is None) == (number == NO_GRID)
        assert grid is None or grid.tolist() == made.grids[number].tolist()
        assert shown.halting[-1] == pytest.approx(1 / (1 + np.exp(-unchanged.halt_logit[row])), abs=1e-6)


# The second pass.


def test_the_time_needed_is_that_of_every_row(puzzle_set: PuzzleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that a row moves on by as many seconds as it has cells."""
    config, processes, clock = build_config(make_checkpoint(puzzle_set).config), join_process_group(), [0.0]
    questions = Workload(puzzle_set, "task")
    cells = int(questions.examples.widths(questions.puzzles).sum())

    def answer(predictor: Predictor, asked: Queries, memory: object) -> None:
        clock[0] += len(asked) * predictor.width(asked)

    monkeypatch.setattr(Predictor, "answer", answer)
    monkeypatch.setattr("pipeline.prediction.predict.time.monotonic", lambda: clock[0])

    def seconds(**settings: Any) -> float:
        return estimate_prediction(
            config.model_copy(update={"predict": PredictSettings(**settings)}), puzzle_set, processes
        ).total

    assert seconds(second_pass=False) == pytest.approx(2 + 1.2 * cells)
    inputs = set(zip(*questions.inputs_of(questions.puzzles, questions.pairs), strict=True))
    again = sum(map(len, questions.ask_for({min(inputs)}, board=True))) * 144 * np.ceil(0.05 * len(inputs))
    assert seconds() == pytest.approx(2 + 1.2 * (cells + again)), "some are asked again on the whole board"
    assert seconds(second_pass=False, trajectories=3, noise=0.1) == pytest.approx(2 + 1.2 * 3 * cells)
    assert seconds(second_pass=False, rescore=5) == pytest.approx(2 + 1.2 * 2 * cells)


@pytest.mark.parametrize(("batch_size", "boards"), [(None, 3), (2, 2)])
def test_on_cuda_the_compiled_model_is_timed_with_the_real_batches_and_its_start_apart(
    puzzle_set: PuzzleSet, monkeypatch: pytest.MonkeyPatch, batch_size: int | None, boards: int
) -> None:
    """Preparing the model takes 7 s, trying batch sizes 3 s, compiling 40 s, and a row a second for each cell."""
    settings = PredictSettings(second_pass=False, batch_size=batch_size)
    config = build_config(make_checkpoint(puzzle_set).config).model_copy(update={"predict": settings})
    clock = [0.0]
    rows_at_once = []
    compiled = []

    def prepare(model: object, table: object, settings: TrainSettings, device: torch.device) -> None:
        compiled.append(settings.compile)
        clock[0] += 7

    def choose(predictor: Predictor, asked: list[Queries], device: torch.device) -> int:
        assert device.type == "cuda"
        clock[0] += 3
        return 3

    def answer(predictor: Predictor, asked: Queries, memory: BatchSize) -> None:
        clock[0] += len(asked) * predictor.width(asked) if rows_at_once else 40
        rows_at_once.append((len(asked), memory.rows(predictor.width(asked))))

    monkeypatch.setattr(time_estimate, "prepare_model", prepare)
    monkeypatch.setattr(time_estimate, "choose_boards", choose)
    monkeypatch.setattr(Predictor, "answer", answer)
    monkeypatch.setattr("pipeline.prediction.predict.time.monotonic", lambda: clock[0])
    processes: Any = SimpleNamespace(device=torch.device("cuda"), count=2)
    estimate = estimate_prediction(config, puzzle_set, processes)
    questions = Workload(puzzle_set, "task")
    assert compiled == [config.train.compile], "as in training and prediction"
    assert estimate.start == SECONDS_TO_START[True] + 7 + (3 if batch_size is None else 0) + 40
    assert estimate.work == pytest.approx(1.2 * questions.examples.widths(questions.puzzles).sum() / 2)
    assert estimate.total == estimate.start + estimate.work
    board = config.model.id_slots + config.model.cells
    widths = sorted({int(width) for width in questions.examples.widths(questions.puzzles)}, reverse=True)
    assert [most for _, most in rows_at_once[1:]] == [
        boards * board // (config.model.id_slots + width) for width in widths
    ]


def test_what_is_no_part_is_not_removed(puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    (tmp_path / "out.parts").mkdir()
    (tmp_path / "out.parts" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out.parts: contains thesis.txt"):
        ask(puzzle_set, tmp_path / "out")
    assert (tmp_path / "out.parts" / "thesis.txt").read_text() == "mine"


def test_what_predicts_is_told_apart(puzzle_set: PuzzleSet) -> None:
    checkpoint = make_checkpoint(puzzle_set)
    config = checkpoint.config | {"model": checkpoint.config["model"] | {"l_cycles": 6}}
    others = [
        replace(checkpoint, config=config),
        replace(checkpoint, keys=checkpoint.keys[::-1]),
        replace(checkpoint, id_rows=checkpoint.id_rows.flip(0)),
        make_checkpoint(puzzle_set, seed=1),
    ]
    assert len({fingerprint(each) for each in [checkpoint, *others]}) == 5
    assert fingerprint(make_checkpoint(puzzle_set)) == fingerprint(checkpoint)
