"""Every command that writes, killed at its file operations: the next run has the same result and leaves nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.kill_cases import CASE, write_inputs
from tests.helpers.kill_points import ForkServer
from tests.helpers.kill_runs import Kill, kill_everywhere

FEW = {"build": 6, "vote": 5, "train": 4}
"""Points of the fast tests, by case."""


@pytest.fixture(scope="module")
def server_and_inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ForkServer, Path]]:
    with ForkServer() as server:
        inputs = tmp_path_factory.mktemp("kills") / "inputs"
        write_inputs(server, inputs)
        yield server, inputs


def describe(kills: list[Kill]) -> str:
    """The kills that were not survived, one a line."""
    return "\n".join(str(kill) for kill in kills if kill.problems)


@pytest.mark.parametrize("name", FEW)
def test_a_killed_command_is_completed_by_the_next(
    name: str, server_and_inputs: tuple[ForkServer, Path], tmp_path: Path
) -> None:
    server, inputs = server_and_inputs
    kills = list(kill_everywhere(server, CASE[name], inputs, tmp_path / "work", FEW[name]))
    assert not describe(kills), describe(kills)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASE)
def test_every_file_operation_survives_a_kill(
    name: str, server_and_inputs: tuple[ForkServer, Path], tmp_path: Path
) -> None:
    server, inputs = server_and_inputs
    kills = list(kill_everywhere(server, CASE[name], inputs, tmp_path / "work"))
    assert kills
    assert not describe(kills), describe(kills)
