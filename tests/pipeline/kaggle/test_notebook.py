"""The notebook says the score in score.json, or that the file is damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.kaggle.notebook import describe_run
from submissions.predictions import Prediction, make_predictions
from submissions.score import score_predictions, score_submission
from submissions.submission_file import make_submission
from submissions.vote import vote
from tests.helpers.paths import ROOT
from tests.helpers.sources import FIRST, SECOND

TASKS = [FIRST, SECOND]
SAME = "t0|||0123456789"


def scores() -> list[dict[str, Any]]:
    """Return scores with and without predictions, of which one is right and one is no grid."""
    right = FIRST.tests[0].output
    rows = [Prediction(FIRST.id, 0, SAME, right, 1.0), Prediction(SECOND.id, 0, SAME, None, 1.0)]
    none = make_predictions({}, [Prediction(FIRST.id, 0, SAME, np.zeros((1, 1), np.uint8), 1.0)])
    made = []
    for predictions in (make_predictions({}, rows), none):
        ballot = vote(predictions, TASKS, "count")
        submission = make_submission(ballot, TASKS)
        made.append(score_predictions(predictions, TASKS, "tasks", ballot, submission).to_json())
        made.append(score_submission(submission, TASKS, "tasks").to_json())
    return made


def test_scores_are_described(tmp_path: Path) -> None:
    for score in scores():
        (tmp_path / "score.json").write_text(json.dumps(score))
        said = describe_run(tmp_path).splitlines()[0]
        assert said.startswith(f"tasks: 2 tasks, 2 test outputs, macro pass@2 {score['pass@2']['macro']:.1%}")


@pytest.mark.parametrize("name", ["finished", "ensemble"])
def test_scores_of_version_0_1_are_described(name: str) -> None:
    assert "macro pass@2" in describe_run(ROOT / "tests" / "golden" / "v0.1" / name)


@pytest.mark.parametrize(
    "alter",
    [
        lambda score: score.pop("tasks"),
        lambda score: score.update(tasks=None),
        lambda score: score.update(outputs="many"),
        lambda score: score.update(source=[]),
        lambda score: score.update(more=1),
        lambda score: score["pass@2"].update(macro=float("nan")),
        lambda score: score["pass@2"].update(macro=True),
        lambda score: score.update(kinds=[1]),
    ],
)
def test_a_wrong_field_is_damage(tmp_path: Path, alter: Callable[[dict[str, Any]], object]) -> None:
    score = scores()[0]
    alter(score)
    (tmp_path / "score.json").write_text(json.dumps(score))
    assert describe_run(tmp_path).splitlines()[0] == f"no score: {tmp_path / 'score.json'} is damaged"
