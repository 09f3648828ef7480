"""result.json of a trial is read with every field checked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from augment.errors import DamagedError, UserError
from pipeline.experiments.trial import Trial
from pipeline.recipes.registry import recipe

CONFIG = recipe("smoke")
RESULT: dict[str, Any] = {
    "config": CONFIG.model_dump(mode="json"),
    "versions": {"commit": None, "torch": "2.13.0", "cores": 2, "threads": 1, "device": "cpu"},
    "data": {"source": "sudoku-4x4/30+12", "tasks": 1, "backtracks, mean": 0.5},
    "tests": 3, "parameters": 100, "passes": 7, "depth": 42, "training_seconds": 1.5, "seconds": 2.0,
    "metrics": {"step": 2, "loss": 1.0, "exact": 0.0}, "curve": [[1, 0.0], [2, 0.5]],
    "answers": {
        "exact": {"value": 0.5, "steps": [0.0, 0.5], "right": ["000", "011"]},
        "votes": {"value": 1, "right": ["111"]},
        "wide": {"value": 0.5, "more": {"pass@1": 0.5, "pass@2": 0.5, "coverage": 1.0}, "compute": 4, "right": ["011"]},
    },
}  # fmt: skip


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return Trial("row", 0, CONFIG, ("exact", "votes"), None, tmp_path)


def test_a_result_is_read_as_it_was_written(trial: Trial) -> None:
    assert json.dumps(trial.result) == json.dumps(RESULT)


@pytest.mark.parametrize(
    ("alter", "field"),
    [
        (lambda result: result.pop("answers"), "answers: Field required"),
        (lambda result: result.update(answers=None), "answers: Input should be"),
        (lambda result: result.update(answers=[]), "answers: Input should be"),
        (lambda result: result.update(more=1), "more: Extra inputs"),
        (lambda result: result.update(tests=-1), "tests: "),
        (lambda result: result.update(tests=10**40), "tests: "),
        (lambda result: result.update(seconds=float("nan")), "seconds: "),
        (lambda result: result.update(training_seconds="1"), "training_seconds: "),
        (lambda result: result.update(curve=[[1]]), "curve.0.1: Field required"),
        (lambda result: result.update(versions={"torch": [1]}), "versions.torch"),
        (lambda result: result["answers"]["exact"].pop("right"), "answers.exact.right: Field required"),
        (lambda result: result["answers"]["exact"].update(right=[]), "answers.exact.right: "),
        (lambda result: result["answers"]["exact"].update(right=["0a1", "000"]), "answers.exact.right.0: "),
        (lambda result: result["answers"]["exact"].update(right=["000", "0"]), "the numbers of test inputs differ"),
        (lambda result: result["answers"]["exact"].update(steps=[0.0]), "steps: not as many as in right"),
        (lambda result: result["answers"]["votes"].update(value=None), "answers.votes.value: "),
        (lambda result: result["answers"]["wide"]["more"].pop("pass@2"), "answers.wide.more.pass@2: Field required"),
        (lambda result: result["answers"]["wide"].update(more=None), "more: null or without compute"),
    ],
)
def test_a_wrong_field_is_named(trial: Trial, alter: Callable[[dict[str, Any]], object], field: str) -> None:
    file = trial.folder / "result.json"
    result = json.loads(file.read_text())
    alter(result)
    file.write_text(json.dumps(result))
    with pytest.raises(DamagedError) as error:
        _ = trial.result
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert field in message
    assert message.endswith("; remove the file: the same command then makes it again")


def test_a_result_of_other_settings_is_not_taken(trial: Trial) -> None:
    file = trial.folder / "result.json"
    file.write_text(json.dumps(RESULT | {"config": RESULT["config"] | {"seed": 5}}))
    with pytest.raises(UserError, match="was made with other settings"):
        _ = trial.result
