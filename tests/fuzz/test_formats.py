"""Mutated files of every format: a right result or one message, never a traceback, a hang or a signal."""

from collections.abc import Iterator

import pytest

from tests.fuzz.formats import FORMATS
from tests.fuzz.worker import Worker, fuzz

FEW = 25
MANY = 2_000


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(tmp_path_factory.mktemp("fuzz")) as started:
        yield started


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_are_read_or_refused(name: str, worker: Worker) -> None:
    counts = fuzz(worker, name, range(FEW))
    assert not counts.failures, counts.describe_failures()
    assert counts.tried == FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_mutated_files_are_read_or_refused(name: str, worker: Worker) -> None:
    counts = fuzz(worker, name, range(MANY))
    assert not counts.failures, counts.describe_failures()
    assert counts.refused > MANY / 10, "the mutations reach the checks"
    assert counts.right > MANY / 50, "the mutations leave readable files too"
