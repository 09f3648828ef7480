"""The fuzzers themselves: a number is a mutation, a new seal holds, and a crash or a hang is reported."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from augment.errors import DamagedError, UserError
from augment.puzzle_set_checks import PUZZLES_FILE, PuzzleSetHeader
from augment.puzzle_set_files import SUMMARY_FILE
from augment.storage import unseal
from solver.data.batches import check_board
from tests.fuzz import puzzle_sets
from tests.fuzz.formats import FORMATS, prepare
from tests.fuzz.outcomes import is_refusal
from tests.fuzz.worker import Worker
from tests.helpers.mutations import mutate_json, reseal
from tests.helpers.untrained import make_set


def test_a_number_is_a_mutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []
    for copy in ("one", "two"):
        prepare("submission", tmp_path / copy)
        monkeypatch.chdir(tmp_path / copy)
        contents.append([(FORMATS["submission"].mutate(Random("5")), Path("submission.json").read_bytes())])
    assert contents[0] == contents[1]
    assert len({mutate_json(Random(number), {"a": [1, {"b": 2}]}) for number in range(50)}) > 25


def test_a_new_seal_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    puzzle_sets.prepare()
    file = Path(puzzle_sets.FOLDER) / SUMMARY_FILE
    whole = file.read_text()
    reseal(file)
    assert file.read_text() == whole
    file.with_name(PUZZLES_FILE).write_bytes(b"another content")
    with pytest.raises(DamagedError):
        unseal(file, PuzzleSetHeader, "set", 2, "")
    reseal(file, only_itself=True)
    with pytest.raises(DamagedError):
        unseal(file, PuzzleSetHeader, "set", 2, "")
    reseal(file)
    assert unseal(file, PuzzleSetHeader, "set", 2, "").files


def test_a_crash_and_a_hang_are_reported_and_the_next_mutation_is_tried(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        assert worker.call(60, os.abort)[:2] == ("failed", "SIGABRT")
        assert worker.call(0.2, time.sleep, 60)[:2] == ("failed", "hang")
        assert worker.call(60, os.path.basename, "a/b") == "b"


def raised(function: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def test_only_our_own_messages_are_refusals() -> None:
    assert is_refusal(raised(lambda: check_board(make_set(0, limit=1), 5)))
    assert is_refusal(raised(lambda: Path("/nowhere/at/all").read_text()))
    assert not is_refusal(raised(lambda: int("x")))
    assert not is_refusal(raised(lambda: {}["input"]))
    assert not is_refusal(OSError("without a file"))
    assert not is_refusal(UserError(""))
