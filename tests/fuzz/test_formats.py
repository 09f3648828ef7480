"""Mutated files of every format: a right result or one message, never a traceback, a hang or a signal."""

from pathlib import Path

import pytest

from tests.fuzz.formats import FORMATS
from tests.fuzz.worker import fuzz

FEW = 40
MANY = 2_000


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    counts = fuzz(name, range(FEW), tmp_path)
    assert not counts.failures, counts.describe_failures()
    assert counts.tried == FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    counts = fuzz(name, range(MANY), tmp_path)
    assert not counts.failures, counts.describe_failures()
    assert counts.refused > MANY / 10, "the mutations reach the checks"
    assert counts.right, "the mutations leave readable files too"
