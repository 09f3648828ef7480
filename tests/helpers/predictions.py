"""What the tests of prediction share: a stored set, asking it, a crash on the way, what is the same."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from augment import PuzzleSet, write_puzzle_set
from augment.puzzle_set_files import open_puzzle_set
from pipeline.config.run_config import PredictSettings
from pipeline.prediction.predict import predict
from pipeline.prediction.predictor import Predictor
from pipeline.runtime.console import Console
from submissions import Predictions
from submissions.prediction_files import write_shard
from tests.helpers.resume import Crash
from tests.helpers.untrained import make_checkpoint, make_set

FILES = ("answers.parquet", "grids.parquet", "recursion.parquet")


def stored_set(folder: Path) -> PuzzleSet:
    """Seven tasks under up to 24 puzzles each: six parts."""
    write_puzzle_set(make_set(augmentations=23), folder)
    return open_puzzle_set(folder)


class Notes(Console):
    """A console that remembers."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(message)

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)


def ask(puzzle_set: PuzzleSet, folder: Path, notes: Notes | None = None, **settings: Any) -> Predictions:
    """Without a second pass, unless asked for: the untrained model knows no end marks and would need it."""
    checkpoint, chosen = make_checkpoint(puzzle_set), PredictSettings.model_validate({"second_pass": False} | settings)
    return predict(checkpoint, puzzle_set, chosen, folder, notes or Notes())


def same_files(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def same_answers(one: Predictions, other: Predictions) -> None:
    """Up to the rounding of batches of another size."""
    for column in fields(one.answers):
        given, expected = (getattr(each.answers, column.name) for each in (one, other))
        if given.dtype.kind == "f":
            np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
        else:
            assert_array_equal(given, expected)
    assert_array_equal(one.grids.ids, other.grids.ids)


def crash_after(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the stage, as a kill does, once so many parts are written."""
    write, written = write_shard, []

    def patched(*given: Any) -> None:
        if len(written) == parts:
            raise Crash
        write(*given)
        written.append(given)

    monkeypatch.setattr("pipeline.prediction.shards.write_shard", patched)


def count_answered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each part that is answered from now on."""
    answer, rows = Predictor.answer, []

    def patched(predictor: Predictor, asked: Any, *rest: Any) -> Any:
        rows.append(len(asked))
        return answer(predictor, asked, *rest)

    monkeypatch.setattr(Predictor, "answer", patched)
    return rows
