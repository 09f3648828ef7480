"""The `score` command on hand-made submissions, predictions and runs of real tasks."""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment import Selection, SourcedTasks, Task, build_puzzle_set, load_tasks
from augment.storage import write_json
from pipeline.cli.main import main
from pipeline.config.run_config import PredictSettings
from pipeline.prediction.predict import predict
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from submissions import (
    Prediction,
    make_predictions,
    make_submission,
    read_predictions,
    vote,
    write_predictions,
    write_submission,
)
from tests.helpers.untrained import MODEL, make_checkpoint

SOURCE, OTHER = "arc-agi-1/training", "arc-agi-1/evaluation"
CHOSEN = Selection(max_side=3, limit=4)
A, B, C, D = "0d3d703e", "25d8a9c8", "25ff71a9", "27a28665"
"""The four tasks, with 1, 1, 2 and 3 test outputs."""


def run(*arguments: str | Path) -> int:
    """Run `score` and return its exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main(["score", *map(str, arguments)])
    return int(exit_info.value.code or 0)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return what it prints, joined to one line; no line may be wider than 100 columns."""
    capsys.readouterr()
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    return " ".join(out.split())


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return the error message of a command that fails, as one line."""
    capsys.readouterr()
    assert run(*arguments) == 2
    return " ".join(capsys.readouterr().err.split())


def answer(tasks: list[Task], right: Set[str], sure: Set[str]) -> list[Prediction]:
    """Make predictions: two votes for each of two wrong grids, one malformed prediction, and votes for the right grid.

    The right grid gets three votes for tasks in `right`, and one vote of high confidence for tasks in `sure`.
    """
    rows = []
    for task in tasks:
        for place, pair in enumerate(task.tests):
            assert pair.output is not None
            grids = [np.full((1, width), 3, np.uint8) for width in (29, 30)] * 2 + [None]
            grids += [pair.output] * (3 if task.id in right else 0)
            rows += [Prediction(task.id, place, "t0|||0123456789", grid, -2.0) for grid in grids]
            if task.id in sure:
                rows.append(Prediction(task.id, place, "t0|||0123456789", pair.output, 5.0))
    return rows


def write_answers(
    folder: Path, right: Set[str], sure: Set[str] = frozenset(), sources: tuple[str, ...] = (SOURCE,), **metadata: Any
) -> Path:
    """Write a predictions folder for the first four tasks of each source."""
    by_source = {source: load_tasks(source, CHOSEN if source == SOURCE else Selection(limit=4)) for source in sources}
    ids = {source: [task.id for task in tasks] for source, tasks in by_source.items()}
    rows = [row for tasks in by_source.values() for row in answer(tasks, right, sure)]
    about = {"sources": ids, "trained_on": [], "training_known": True, **metadata}
    write_predictions(folder, make_predictions(about, rows))
    return folder


def write_run(
    folder: Path, right: Set[str], sure: Set[str] = frozenset(), ranker: str = "count", **metadata: Any
) -> Path:
    """Write a run folder for the four tasks, with everything that a score needs."""
    config = recipe("smoke")
    assert (config.source, config.selection.selection()) == (SOURCE, CHOSEN)
    folder.mkdir()
    config = config.model_copy(update={"predict": PredictSettings(ranker=ranker)})
    write_json(folder / "config.json", config.model_dump(mode="json"))
    tasks = load_tasks(SOURCE, CHOSEN)
    predictions = read_predictions(write_answers(folder / "predictions", right, sure, **metadata))
    write_submission(folder / "submission.json", make_submission(vote(predictions, tasks, ranker), tasks))
    return folder


def test_a_score_says_all_that_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, write_run(tmp_path / "run", {A, C}, {D}))
    assert "arc-agi-1/training: 4 tasks, 7 test outputs" in text
    # Tasks A and C are solved, with 3 of 7 outputs; the right grids of D have rank 3.
    assert "pass@2 50.0% [0.0, 100.0] 42.9%" in text
    assert "coverage 75.0%" in text
    assert "selection 50.0% [18.8, 81.2]" in text
    assert "pass@K 1 2 3 5 10 20 50 100 200 500 1000 macro 50.0% 50.0% 75.0% 75.0%" in text
    # One malformed prediction for each of seven outputs: 7 of 7 * 5 + 3 * 3 + 3.
    assert "right grid, median rank: 2; malformed predictions (no grid): 14.9%" in text
    assert "candidates 2 to 10 7 3 (42.9%) 6 (85.7%)" in text
    assert "larger side up to 5 7 3 (42.9%) 6 (85.7%)" in text


def test_a_submission_alone_says_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", {A, C}, {D})
    text = printed(capsys, folder / "submission.json", SOURCE, "--max-side", "3", "--limit", "4")
    assert "pass@2 50.0%" in text
    assert "larger side up to 5 7 3 (42.9%)" in text
    assert not any(word in text for word in ("coverage", "covered 6", "selection", "pass@K", "no grid"))
    assert "The tasks trained on are not known" in text


def test_a_mark_stays_prominent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marked, clean = write_run(tmp_path / "marked", {A}, trained_on=[B]), write_run(tmp_path / "clean", {C})
    assert f"NO SCORE ON UNSEEN TASKS: 1 of 4 tasks were trained on, test outputs included: {B}" in printed(
        capsys, marked
    )
    assert f"NO SCORE ON UNSEEN TASKS: 1 of 4 tasks were trained on, test outputs included: {B}" in printed(
        capsys, marked, "--rankers", "all"
    )
    text = printed(capsys, clean, "--against", marked)
    assert f"{marked}: NO SCORE ON UNSEEN TASKS" in text.replace("- ", "-")
    assert as_json(capsys, clean, "--against", marked)["against"]["score"]["trained_on"] == [B]


def test_every_source_answered_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_answers(tmp_path / "both", {A, C}, sources=(SOURCE, OTHER))
    scores = as_json(capsys, folder)["scores"]
    assert [(each["source"], each["tasks"]) for each in scores] == [(SOURCE, 4), (OTHER, 4)]
    assert [each["pass@2"]["macro"] for each in scores] == [0.5, 0.0]
    assert scores[0]["malformed"] < scores[1]["malformed"] == 1 / 5, "each of its own answers"
    text = printed(capsys, folder, "--limit", "2")
    assert "arc-agi-1/training: 2 tasks, 2 test outputs" in text
    assert "arc-agi-1/evaluation: 2 tasks, 2 test outputs" in text
    assert [each["source"] for each in as_json(capsys, folder, "--rankers", "count")["scores"]] == [SOURCE, OTHER]


def test_one_source_of_several_is_scored_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_answers(tmp_path / "both", {A, C}, sources=(SOURCE, OTHER))
    assert as_json(capsys, folder, OTHER)["source"] == OTHER
    assert "name the SOURCE after it" in refusal(capsys, folder, "--tasks", A)
    assert as_json(capsys, folder, SOURCE, "--tasks", A)["tasks"] == 1


def test_predictions_of_a_set_with_two_scored_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sourced = [
        SourcedTasks(source, "scored", load_tasks(source, Selection(max_side=4, limit=2))) for source in (SOURCE, OTHER)
    ]
    puzzle_set = build_puzzle_set(sourced, 0, seed=0, board_side=MODEL.board_side)
    predict(make_checkpoint(puzzle_set), puzzle_set, PredictSettings(), tmp_path / "answers", Console(quiet=True))
    scores = as_json(capsys, tmp_path / "answers")["scores"]
    assert {each["source"]: each["tasks"] for each in scores} == {SOURCE: 2, OTHER: 2}


def test_two_runs_on_the_same_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = write_run(tmp_path / "a", {B, D}), write_run(tmp_path / "b", {A, B})
    text = printed(capsys, ours, "--against", theirs)
    assert "arc-agi-1/training: 4 tasks, 7 test outputs, pass@2" in text
    assert "difference +0.0" in text
    assert "test outputs: 3 gained, 1 lost, 1 solved by both, 2 by none" in text
    assert "p = 0.625: if both were equally good, a split at least as uneven as 3 to 1 would occur in 62.5%" in text
    assert f"gained: {D} lost: {A}" in text


def test_a_comparison_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = write_run(tmp_path / "a", {B, D}), write_run(tmp_path / "b", {A, B})
    result = as_json(capsys, ours, "--against", theirs)
    against = result.pop("against")
    assert [result, against["score"]] == [as_json(capsys, each) for each in (ours, theirs)]
    names = ("gained", "lost", "both", "neither", "macro", "p_value", "gained_tasks", "lost_tasks", "name")
    assert [against[name] for name in names] == [3, 1, 1, 2, 0.0, 0.625, [D], [A], str(theirs)]


@pytest.mark.parametrize(
    ("what", "other"),
    [("a", "b/submission.json"), ("a/predictions", "b/submission.json"), ("a/submission.json", "b")],
)
def test_a_submission_is_compared_on_the_tasks_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, other: str
) -> None:
    for name, right in (("a", {B, D}), ("b", {A, B})):
        write_run(tmp_path / name, right)
    result = as_json(capsys, tmp_path / what, "--against", tmp_path / other)
    assert (result["tasks"], result["against"]["gained"], result["against"]["lost"]) == (4, 3, 1)


def test_two_submissions_are_compared_on_all_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = (
        write_run(tmp_path / name, right) / "submission.json" for name, right in (("a", {B, D}), ("b", {A, B}))
    )
    result = as_json(capsys, ours, SOURCE, "--against", theirs)
    assert (result["tasks"], result["against"]["gained"], result["against"]["neither"]) == (400, 3, 416 - 3 - 1 - 1)
    assert as_json(capsys, ours, SOURCE, "--against", theirs, "--tasks", f"{A},{D}")["tasks"] == 2
    assert "does not record its source" in refusal(capsys, theirs, "--against", ours)


def test_runs_on_different_tasks_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write_run(tmp_path / "a", {B, D})
    fewer = write_answers(tmp_path / "fewer", {A}, sources=())
    rows = answer(load_tasks(SOURCE, Selection(tasks=(A, B))), {A}, set())
    write_predictions(fewer, make_predictions({"sources": {SOURCE: [A, B]}}, rows), replace=True)
    message = refusal(capsys, ours, "--against", fewer)
    assert f"only the first 2 ({C}, {D}); only the second none" in message
    assert "--tasks" in message
    assert as_json(capsys, ours, "--against", fewer, "--tasks", f"{A},{B}")["tasks"] == 2
    assert f"only the first 1 ({C})" in refusal(capsys, ours, "--against", fewer, "--tasks", f"{A},{C}")
    other = write_answers(tmp_path / "other", set(), sources=(OTHER,))
    message = refusal(capsys, ours, "--against", other)
    assert f"has the sources {SOURCE} and {other} has {OTHER}" in message


def test_rankers_on_one_predictions_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", {A, C}, {C, D}, ranker="confidence")
    result = as_json(capsys, folder, "--rankers", "all")
    assert (result["source"], result["tasks"], result["outputs"], result["ranker"]) == (SOURCE, 4, 7, "confidence")
    by_name = {each["ranker"]: each for each in result["rankers"]}
    # Right grids have most votes for A and C, and the highest confidence for C and D. For A they win by confidence too.
    assert {name: by_name[name]["pass@2"]["macro"] for name in ("count", "confidence")} == {
        "count": 0.5,
        "confidence": 0.75,
    }
    assert [by_name["confidence"]["against_count"][name] for name in ("gained", "lost")] == [3, 0]
    assert by_name["count"]["coverage"] == by_name["confidence"]["coverage"]
    assert (by_name["count"]["selection"], by_name["confidence"]["selection"]) == (0.5, 1.0)
    assert result["rankers"][0]["pass@2"]["macro"] == max(each["pass@2"]["macro"] for each in result["rankers"])
    assert "--rescore" in result["left_out"]["product"]
    text = printed(capsys, folder, "--rankers", "all")
    assert text.index("confidence *") < text.index("count 50.0%")
    assert "100.0% 85.7% 3, 0 0.250" in text
    assert "product: the ranker 'product' needs" in text
    assert as_json(capsys, folder, "--rankers", "shape, count")["left_out"] == {}


def test_pooled_predictions_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write_run(tmp_path / "a", set(), {A}, ranker="confidence")
    theirs = write_answers(tmp_path / "b", {A}, {B})
    assert as_json(capsys, ours)["merged"] == []
    result = as_json(capsys, ours, "--merge", theirs)
    assert result["merged"] == [str(ours / "predictions"), str(theirs)]
    # Ranked by confidence, as in the run, one sure vote for B beats four unsure ones; by count it would have rank 3.
    assert (result["coverage"]["macro"], result["pass@2"]["macro"]) == (0.5, 0.5)
    assert "Pooled from 2 predictions:" in printed(capsys, ours, "--merge", theirs)
    assert as_json(capsys, ours, "--merge", theirs, "--against", ours)["against"]["score"]["merged"] == []
    assert "twice" in refusal(capsys, ours, "--merge", ours)


def test_a_submission_voted_from_pooled_predictions_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = write_answers(tmp_path / "a", {A}, {B}), write_answers(tmp_path / "b", {B}, {A})
    chosen = (SOURCE, "--max-side", "3", "--limit", "4")
    submission = tmp_path / "pooled.json"
    with pytest.raises(SystemExit) as exit_info:
        main(["vote", str(ours), *chosen, "--out", str(submission), "--merge", str(theirs)])
    assert not exit_info.value.code
    assert as_json(capsys, submission, *chosen)["merged"] == [str(ours), str(theirs)]
    assert "Pooled from 2 predictions:" in printed(capsys, submission, *chosen)
    submission.write_text(submission.read_text() + " ")
    assert as_json(capsys, submission, *chosen)["merged"] == [], "another file under its name"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--against", "run", "--rankers", "all"), "give one of them"),
        (("--rankers", "worst"), "unknown ranker 'worst': choose one of"),
        (("--rankers", ","), "no ranker is named"),
        (("--against", "nothing.json"), "nothing.json"),
        (("--merge", "run/submission.json"), "submission.json"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    text: str,
) -> None:
    write_run(tmp_path / "run", {A})
    monkeypatch.chdir(tmp_path)
    assert text in refusal(capsys, "run", *arguments)


def test_a_submission_has_no_rankers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_run(tmp_path / "run", {A}) / "submission.json"
    assert f"{file}: has no predictions to rank" in refusal(capsys, file, SOURCE, "--rankers", "all")


def voted(*arguments: str | Path) -> int:
    """Run `vote` and return its exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main(["vote", *map(str, arguments)])
    return int(exit_info.value.code or 0)


def test_a_folder_is_not_pooled_with_itself_however_it_is_spelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_answers(tmp_path / "a", {A}, {B})
    again = tmp_path / "a" / ".." / "a"
    assert voted(folder, SOURCE, "--out", tmp_path / "s.json", "--merge", again) == 2
    assert "twice" in capsys.readouterr().err


def test_placeholders_in_a_submission_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_answers(tmp_path / "a", {A}, {B})
    assert voted(folder, SOURCE, "--out", tmp_path / "s.json") == 0
    assert "of 416 test inputs have no prediction and get the placeholder [[0]]" in capsys.readouterr().out
