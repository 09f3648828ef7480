"""A puzzle set, and an undisturbed run on it."""

from pathlib import Path

import pytest

from tests.helpers.commands import run
from tests.helpers.resume import STEPS, TRAIN, build_small_set


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of six real tasks, some of them trained on with all their pairs."""
    folder = tmp_path_factory.mktemp("sets") / "set"
    build_small_set(folder)
    return folder


@pytest.fixture(scope="module")
def alone(puzzles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    assert run("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", folder) == 0
    return folder
