"""What was trained on is remembered from set to checkpoint to score, and a score on it is marked."""

import json
from pathlib import Path

import pytest

from augment import Task
from pipeline.recipes.registry import RECIPES
from tests.helpers.commands import SHORT, run
from tests.helpers.sources import FIRST, SECOND, THIRD, read, write_source
from tests.helpers.strategies import disguise

BUILD = ("build", "--augmentations", "2")
TRAIN = ("train", "--recipe", "smoke", *SHORT)


def test_a_leak_that_was_allowed_marks_the_set_the_checkpoint_and_the_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = write_source(tmp_path / "scored", FIRST, SECOND)
    train = write_source(tmp_path / "train", disguise(SECOND, 1, "other"), THIRD)
    leaked = [[SECOND.id, "other", True]]
    words = (*BUILD, "--score", scored, "--train", train, "--out", tmp_path / "set", "--on-leak", "allow")
    assert run(*words) == 0
    assert f"{SECOND.id} = other" in capsys.readouterr().out
    assert read(tmp_path, "set", "puzzle_set.json")["leaks"] == leaked
    assert run(*TRAIN, "--puzzles", tmp_path / "set", "--run-dir", tmp_path / "run") == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "final"
    assert read(checkpoint, "checkpoint.json")["leaks"] == leaked
    assert read(checkpoint, "seen.json")["tasks"].keys() == {"other", THIRD.id}
    answers = tmp_path / "answers"
    assert run("predict", "--puzzles", tmp_path / "set", "--checkpoint", checkpoint, "--out", answers) == 0
    capsys.readouterr()
    assert run("score", answers, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trained_on"] == [SECOND.id]
    assert run("score", answers) == 0
    assert "NO SCORE ON UNSEEN TASKS: 1 of 2 tasks" in " ".join(capsys.readouterr().out.split())
    assert run("score", answers, scored, "--tasks", FIRST.id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trained_on"] == [], "of the task that was not trained on"


def test_training_on_from_a_marked_checkpoint_keeps_the_mark(tmp_path: Path) -> None:
    scored = write_source(tmp_path / "scored", FIRST, SECOND)
    train = write_source(tmp_path / "train", disguise(SECOND, 1, "other"))
    leaky = (*BUILD, "--score", scored, "--train", train, "--out", tmp_path / "leaky", "--on-leak", "allow")
    clean = (*BUILD, "--score", scored, "--out", tmp_path / "clean")
    assert run(*leaky) == run(*clean) == 0
    assert run(*TRAIN, "--puzzles", tmp_path / "leaky", "--run-dir", tmp_path / "a") == 0
    first, again = (tmp_path / name / "checkpoints" / "final" for name in "ab")
    assert run(*TRAIN, "--puzzles", tmp_path / "clean", "--checkpoint", first, "--run-dir", tmp_path / "b") == 0
    assert read(again, "checkpoint.json")["leaks"] == [[SECOND.id, "other", True]]
    assert read(again, "seen.json")["tasks"].keys() == {"other"}


def test_training_from_a_checkpoint_remembers_what_it_had_seen(tmp_path: Path) -> None:
    first = write_source(tmp_path / "first", FIRST)
    later = write_source(tmp_path / "later", disguise(SECOND, 2, "later"), THIRD)
    seen_before = write_source(tmp_path / "before", SECOND)
    start = ("solve", "--recipe", "smoke", *SHORT, "--set", "puzzles.augmentations=1")
    assert run(*start, first, "--train", seen_before, "--run-dir", tmp_path / "a") == 0
    assert read(tmp_path, "a", "score.json")["trained_on"] == []
    checkpoint = tmp_path / "a" / "checkpoints" / "final"
    assert run(*start, later, "--checkpoint", checkpoint, "--run-dir", tmp_path / "b") == 0
    assert read(tmp_path, "b", "score.json")["trained_on"] == ["later"]
    assert "NO SCORE ON UNSEEN TASKS" in (tmp_path / "b" / "report.html").read_text()
    assert read(tmp_path, "b", "checkpoints", "final", "seen.json")["tasks"].keys() == {SECOND.id}


def test_training_on_a_scored_source_is_remembered_like_training_on_a_train_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scored source whose demonstrations are another's test pairs: only a score can tell, as outputs are hidden."""
    tasks = [SECOND, THIRD]
    swapped = [Task(task.id, disguise(Task("x", task.tests, ()), 4).tests, task.demonstrations) for task in tasks]
    attack = write_source(tmp_path / "attack", *swapped)
    true = write_source(tmp_path / "true", *tasks, FIRST)
    start = ("solve", "--recipe", "smoke", *SHORT, "--set", "puzzles.augmentations=1")
    assert run(*start, attack, "--run-dir", tmp_path / "a") == 0
    checkpoint = tmp_path / "a" / "checkpoints" / "final"
    assert read(checkpoint, "seen.json")["demonstrations"].keys() == {SECOND.id, THIRD.id}
    assert run(*start, true, "--checkpoint", checkpoint, "--run-dir", tmp_path / "b") == 0
    assert read(tmp_path, "b", "score.json")["trained_on"] == [SECOND.id, THIRD.id]
    answers = tmp_path / "b" / "predictions"
    assert run("vote", answers, true, "--out", tmp_path / "submission.json") == 0
    for scorable in (tmp_path / "b", answers, tmp_path / "submission.json"):
        capsys.readouterr()
        assert run("score", scorable, true, "--json") == 0
        assert json.loads(capsys.readouterr().out)["trained_on"] == [SECOND.id, THIRD.id]


def test_a_run_drops_what_would_leak_and_says_so(tmp_path: Path) -> None:
    scored = write_source(tmp_path / "scored", FIRST)
    train = write_source(tmp_path / "train", disguise(FIRST, 3, "other"), THIRD)
    words = ("solve", scored, "--recipe", "smoke", *SHORT, "--train", train, "--run-dir", tmp_path / "run")
    assert run(*words) == 0
    assert f"tasks that contain a scored task (1): other = {FIRST.id}" in (tmp_path / "run" / "log.txt").read_text()
    assert read(tmp_path, "run", "score.json")["trained_on"] == []
    assert read(tmp_path, "run", "checkpoints", "final", "seen.json")["tasks"].keys() == {THIRD.id}


def test_no_recipe_stops_for_a_leak_or_allows_one() -> None:
    assert {make().puzzles.on_leak for make in RECIPES.values()} == {"drop"}
