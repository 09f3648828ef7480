"""The setting puzzles.ids (transform, task, shared): training, resuming, prediction, votes, refused combinations."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from augment import Pair, PuzzleSet, Selection, SourcedTasks, Task, build_puzzle_set, load_tasks, write_puzzle_set
from augment.augmentation import PERMUTATIONS, parse_puzzle_keys
from pipeline.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from pipeline.checkpoints.load_model import load_model
from pipeline.config.run_config import ConfigError, build_config, override
from pipeline.prediction.time_estimate import estimate_prediction, estimate_test_time_training
from pipeline.recipes.registry import recipe
from pipeline.runtime.distributed import join_process_group
from pipeline.scoring.unreachable_colours import describe_unreachable
from solver.training.learner import Learner
from submissions.prediction_files import read_predictions
from tests.helpers.commands import launch, run
from tests.helpers.resume import Crash, after, crash, lines, tensors
from tests.helpers.sources import FIRST, SECOND, THIRD, read, write_source
from tests.helpers.strategies import disguise
from tests.helpers.untrained import MODEL, make_checkpoint

SMALL = ("--recipe", "smoke", "--set", "model.board_side=8", "--set", "predict.second_pass=false")
VECTORS = ("--set", "model.transform_vectors=true")
MODES = {
    "transform": ("--set", "puzzles.ids=transform", "--set", "puzzles.augmentations=15"),
    "task": ("--set", "puzzles.ids=task", *VECTORS, "--set", "puzzles.augmentations=15"),
    "shared": ("--set", "puzzles.ids=shared"),
    "symbols": (
        *("--recipe", "smoke_symbols", "--set", "train.id_optimizer=adam", "--set", "train.loss=softmax"),
        *("--set", "train.visits=pairs", "--set", "train.corrupted=0.5", "--set", "model.dropout=0.1"),
    ),
}
VIEWS = {"transform": 16, "task": 16, "shared": 4, "symbols": 8}
STEPS = ("--set", "train.steps=8", "--set", "train.checkpoint_every=3", "--set", "train.log_every=4")


@pytest.fixture(scope="module", params=MODES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A mode, and a finished run in it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run("solve", *SMALL, *MODES[request.param], *STEPS, "--run-dir", folder) == 0
    return request.param, folder


def test_a_run_has_the_rows_of_its_mode_and_answers_every_puzzle(whole: tuple[str, Path]) -> None:
    ids, folder = whole
    checkpoint = load_checkpoint(folder / "checkpoints" / "final")
    tasks, numbers = parse_puzzle_keys(checkpoint.keys)
    each = np.arange(8) * PERMUTATIONS if ids in ("transform", "symbols") else np.zeros(1, int)
    names = sorted(set(tasks))
    assert len(names) == 4
    assert tasks == [name for name in names for _ in each]
    assert numbers.tolist() == [*each.tolist()] * 4
    assert checkpoint.id_rows.any(dim=1).sum() > len(names) / 2, "eight steps meet some of the rows"
    made = read_predictions(folder / "predictions")
    views = VIEWS[ids]
    assert len(made.answers) == 7 * views
    if ids != "shared":
        assert np.bincount(made.answers.augmentation // PERMUTATIONS).tolist() == [7 * views // 8] * 8
    assert (checkpoint.shared_rows is not None) == (ids == "symbols")
    assert (folder / "score.json").exists()


def test_a_stopped_run_goes_on_with_the_same_bits(
    whole: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, folder = whole
    command = ("solve", *SMALL, *MODES[ids], *STEPS, "--run-dir", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(5, crash))
        with pytest.raises(Crash):
            run(*command)
    assert run(*command) == 0
    assert "resumed at step 3" in (tmp_path / "run" / "log.txt").read_text()
    for name in ("final", "step_0000006"):
        one, other = (tensors(path / "checkpoints" / name) for path in (folder, tmp_path / "run"))
        assert_close(one, other, rtol=0, atol=0)
    assert lines(folder) == lines(tmp_path / "run")
    for file in ("submission.json", "score.json"):
        assert (folder / file).read_bytes() == (tmp_path / "run" / file).read_bytes()


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "set"
    chosen = ("--score", "arc-agi-1/training", "--max-side", "3", "--limit", "4", "--augmentations", "7")
    assert run("build", *chosen, "--ids", "transform", "--board-side", "8", "--out", folder) == 0
    assert read(folder, "puzzle_set.json")["draws"] == "outputs"
    return folder


@pytest.mark.parametrize(
    "ids", [pytest.param("transform", marks=pytest.mark.slow), pytest.param("task", marks=pytest.mark.slow), "symbols"]
)
def test_two_processes_train_what_one_does(ids: str, puzzles: Path, tmp_path: Path) -> None:
    chosen = ("train", "--puzzles", puzzles, *SMALL, *MODES[ids])
    chosen = (*chosen, "--set", "train.steps=6", "--set", "train.batch_size=13", "--set", "train.precision=fp64")
    assert run(*chosen, "--run-dir", tmp_path / "1") == 0
    done = launch(2, *chosen, "--run-dir", tmp_path / "2")
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (tensors(tmp_path / name / "checkpoints" / "final") for name in ("1", "2"))
    assert ours["ids/rows"].shape[0] == (4 if ids == "task" else 32)
    assert ("ids/shared" in ours) == (ids == "symbols")
    assert_close(theirs, ours, rtol=0, atol=1e-9)


def test_each_task_is_trained_on_by_itself_in_every_mode(tmp_path: Path) -> None:
    for ids, words in MODES.items():
        chosen = ("solve", *SMALL, *words, "--set", "train.steps=2", "--set", "train.task_steps=2")
        assert run(*chosen, "--run-dir", tmp_path / ids) == 0
        made = read_predictions(tmp_path / ids / "predictions")
        assert made.metadata["made_from"]["each_task"]["task_steps"] == 2


def test_candidates_are_rescored_and_the_board_is_asked_with_the_same_rows(puzzles: Path, tmp_path: Path) -> None:
    chosen = ("train", "--puzzles", puzzles, "--recipe", "smoke", "--set", "puzzles.ids=transform")
    chosen = (*chosen, "--set", "model.board_side=8", "--set", "train.steps=2", "--set", "train.hold_out=2")
    assert run(*chosen, "--run-dir", tmp_path / "run") == 0
    final = tmp_path / "run" / "checkpoints" / "final"
    assert run("predict", "--puzzles", puzzles, "--checkpoint", final, "--rescore", "2", "--out", tmp_path / "out") == 0
    scores = read_predictions(tmp_path / "out").scores
    assert scores is not None
    assert len(scores.task) > 0


def test_the_time_is_estimated_with_fewer_puzzles_than_rows() -> None:
    changes = {"puzzles.ids": "transform", "puzzles.augmentations": 0, "train.task_steps": 2, "model.board_side": 8}
    config = override(recipe("smoke"), changes)
    tasks = load_tasks(config.source, config.selection.selection())
    puzzle_set = build_puzzle_set([SourcedTasks("a", "scored", tasks)], 0, 0, board_side=8, draws=config.puzzles.draws)
    assert estimate_prediction(config, puzzle_set, join_process_group()).total > 0
    assert estimate_test_time_training(config, puzzle_set, join_process_group()) > 0


# One mode from another.


def test_a_checkpoint_of_one_mode_starts_another(
    whole: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, folder = whole
    start = load_checkpoint(folder / "checkpoints" / "final")
    other = "transform" if ids == "shared" else "shared"
    if ids in ("task", "symbols"):  # whose networks have what those of other modes have not
        words = (*MODES[other], "--checkpoint", folder / "checkpoints" / "final", "--run-dir", tmp_path / "other")
        assert run("solve", *SMALL, *words) == 2
        named = "transform_vectors" if ids == "task" else "symbols"
        assert f"model.{named} is True there and False here" in capsys.readouterr().err
        return
    assert run("backbone", folder / "checkpoints" / "final", "--out", tmp_path / "backbone") == 0
    for name, matched in ((folder / "checkpoints" / "final", 4), (tmp_path / "backbone", 0)):
        words = (*MODES[other], "--set", "train.steps=1", "--set", "train.id_lr=1e-9", "--checkpoint", name)
        capsys.readouterr()
        assert run("solve", *SMALL, *words, "--run-dir", tmp_path / f"from {name.name}") == 0
        rows = 32 if other == "transform" else 4
        assert f"ID rows: {matched} matched by key, {rows - matched} new ones" in capsys.readouterr().out
    made = load_checkpoint(tmp_path / "from final" / "checkpoints" / "final")
    for key, row in zip(made.keys, made.id_rows, strict=True):
        expected = start.id_rows[start.keys.index(key)] if key in start.keys else start.id_rows.mean(0)
        assert_close(row, expected, rtol=0, atol=1e-6)


def sets(draws: str = "outputs") -> PuzzleSet:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=9, limit=4))
    return build_puzzle_set([SourcedTasks("a", "scored", tasks)], 15, 0, board_side=MODEL.board_side, draws=draws)  # type: ignore[arg-type]


def test_a_shared_checkpoint_of_before_is_predicted_by_the_row_of_the_task() -> None:
    """It has a row for every puzzle; those of a task are alike."""
    puzzle_set = sets("distinct")
    old = make_checkpoint(puzzle_set)
    rows = old.id_rows[puzzle_set.starts[:-1]].repeat_interleave(torch.from_numpy(np.diff(puzzle_set.starts)), 0)
    config = json.loads(json.dumps(old.config))
    config["puzzles"] |= {"ids": "task"}
    del config["puzzles"]["fixed_colours"]
    _, table = load_model(replace(old, id_rows=rows, config=config), puzzle_set)
    assert torch.equal(table.weights_PI, old.id_rows[puzzle_set.starts[:-1]])


def test_a_puzzle_without_a_row_of_its_transform_is_refused() -> None:
    puzzle_set = sets()
    config = override(build_config(make_checkpoint(puzzle_set).config), {"puzzles.ids": "transform"})
    made = replace(make_checkpoint(puzzle_set), config=config.model_dump(mode="json"))
    load_model(made, puzzle_set)
    fewer = replace(made, id_rows=made.id_rows[1:], keys=made.keys[1:])
    with pytest.raises(ValueError, match="2 of 64 puzzles have no ID row"):
        load_model(fewer, puzzle_set)


@pytest.mark.parametrize("ids", ["augmentation", "transform"])
def test_a_set_of_another_kind_is_refused(
    ids: str, puzzles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = puzzles
    if ids == "transform":
        other = tmp_path / "set"
        chosen = ("--score", "arc-agi-1/training", "--max-side", "3", "--limit", "4", "--augmentations", "3")
        assert run("build", *chosen, "--board-side", "8", "--out", other) == 0
    assert run("train", "--puzzles", other, *SMALL, "--set", f"puzzles.ids={ids}", "--run-dir", tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"build the set with --ids {ids}" in said
    puzzle_set = sets("distinct" if ids == "transform" else "outputs")
    config = override(build_config(make_checkpoint(puzzle_set).config), {"puzzles.ids": ids})
    write_puzzle_set(puzzle_set, tmp_path / "other")
    save_checkpoint(tmp_path / "c", replace(make_checkpoint(puzzle_set), config=config.model_dump(mode="json")))
    words = ("--puzzles", tmp_path / "other", "--checkpoint", tmp_path / "c", "--out", tmp_path / "out")
    assert run("predict", *words) == 2
    assert f"build the set with --ids {ids}" in " ".join(capsys.readouterr().err.split())


def test_a_set_is_extended_by_its_own_kind(puzzles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("build", "--extend", puzzles, "--score", "arc-agi-1/evaluation", "--max-side", "5")
    words = (*words, "--out", tmp_path / "set")
    assert run(*words, "--ids", "transform") == 2
    assert "--ids: a set is extended with the settings it was built with" in " ".join(capsys.readouterr().err.split())
    assert run(*words) == 0
    assert read(tmp_path / "set", "puzzle_set.json")["draws"] == "outputs"


def test_a_set_is_exported_as_it_stands(tmp_path: Path) -> None:
    chosen = ("--score", "arc-agi-1/training", "--max-side", "3", "--limit", "2", "--augmentations", "15")
    assert run("build", *chosen, "--ids", "task", "--format", "published", "--out", tmp_path / "out") == 0
    names = json.loads((tmp_path / "out" / "identifiers.json").read_text())[1:]
    assert len(names) == 32
    assert (parse_puzzle_keys(names)[1] // PERMUTATIONS).tolist() == [*range(8)] * 4


# Settings.


def test_a_task_alone_needs_transform_vectors_and_they_need_it() -> None:
    with pytest.raises(ConfigError, match=r"set model.transform_vectors=true too"):
        override(recipe("smoke"), {"puzzles.ids": "task"})
    with pytest.raises(ConfigError, match=r"set puzzles.ids=task too, or model.transform_vectors=false"):
        override(recipe("smoke"), {"model.transform_vectors": True})
    made = override(recipe("smoke"), {"puzzles.ids": "task", "model.transform_vectors": True})
    assert build_config(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(("old", "new"), [("puzzle", "augmentation"), ("task", "shared")])
def test_settings_of_before_keep_their_meaning(old: str, new: str) -> None:
    values = recipe("smoke").model_dump(mode="json")
    values["puzzles"]["ids"] = old
    with pytest.raises(ConfigError, match=r"puzzles"):
        build_config(values)  # under today's settings
    del values["puzzles"]["fixed_colours"]
    config = build_config(values)
    assert (config.puzzles.ids, config.puzzles.draws, config.model.transform_vectors) == (new, "distinct", False)


def test_what_ids_were_called_before_is_refused_with_the_names_of_today(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solve", "--recipe", "smoke", "--set", "puzzles.ids=puzzle") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert all(name in said for name in ("puzzles.ids", "'augmentation', 'transform', 'task' or 'shared'"))


# What was seen, and what cannot be answered.


@pytest.mark.parametrize("ids", ["transform", "task"])
def test_a_leak_marks_the_score(ids: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = write_source(tmp_path / "scored", FIRST, SECOND)
    train = write_source(tmp_path / "train", disguise(SECOND, 1, "other"), THIRD)
    words = ("build", "--augmentations", "7", "--ids", ids, "--board-side", "8", "--score", scored, "--train", train)
    assert run(*words, "--out", tmp_path / "stopped") == 2
    assert run(*words, "--on-leak", "allow", "--out", tmp_path / "set") == 0
    chosen = ("--set", f"puzzles.ids={ids}", *(VECTORS if ids == "task" else ()), "--set", "train.steps=2")
    assert run("train", *SMALL, *chosen, "--puzzles", tmp_path / "set", "--run-dir", tmp_path / "run") == 0
    final, answers = tmp_path / "run" / "checkpoints" / "final", tmp_path / "answers"
    assert read(final, "seen.json")["tasks"].keys() == {"other", THIRD.id}
    assert run("predict", "--puzzles", tmp_path / "set", "--checkpoint", final, "--out", answers) == 0
    capsys.readouterr()
    assert run("score", answers, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trained_on"] == [SECOND.id]


def test_outputs_in_a_colour_that_is_nowhere_public_are_told_of() -> None:
    one, two = np.array([[1]], np.uint8), np.array([[2]], np.uint8)
    three = np.array([[1, 3]], np.uint8)
    told = Task("told", (Pair(one, two),), (Pair(one, three), Pair(one, two)))
    shown = Task("shown", (Pair(one, two),), (Pair(three, three), Pair(one, None)))
    base, config = recipe("smoke"), recipe("smoke_symbols")
    assert describe_unreachable(config, [told, shown]) == (
        "1 of 3 outputs have a colour that is in no public grid of their task: a model with model.palette=task cannot "
        "predict them"
    )
    assert describe_unreachable(config, [shown]) is None
    assert describe_unreachable(base, [told]) is None
    every = config.model_copy(update={"model": replace(config.model, palette="all")})
    assert describe_unreachable(every, [told]) is None


def test_a_symbol_axis_starts_from_its_backbone(tmp_path: Path) -> None:
    """What a task's puzzles share starts at the mean over the tasks that had been trained."""
    chosen = ("solve", *SMALL, *MODES["symbols"], *STEPS)
    assert run(*chosen, "--run-dir", tmp_path / "run") == 0
    final = tmp_path / "run" / "checkpoints" / "final"
    assert run("backbone", final, "--out", tmp_path / "backbone") == 0
    words = ("--set", "train.steps=1", "--set", "train.id_lr=1e-9", "--limit", "2")
    assert run(*chosen, *words, "--checkpoint", tmp_path / "backbone", "--run-dir", tmp_path / "other") == 0
    trained, started = (load_checkpoint(tmp_path / name) for name in ("backbone", "other/checkpoints/final"))
    assert trained.start_shared is not None
    assert trained.start_shared.any()
    assert started.shared_rows is not None
    assert_close(started.shared_rows, trained.start_shared.expand(2, -1), rtol=0, atol=1e-6)


def test_puzzles_in_other_colours_add_nothing_to_a_symbol_axis(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solve", "--recipe", "smoke_symbols", "--set", "puzzles.augmentations=15") == 2
    assert "set puzzles.ids=transform and puzzles.augmentations=7" in capsys.readouterr().err
