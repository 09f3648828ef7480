"""A run that nobody watches, simulated whole: left alone it solves tasks, hurt it ends well and loses nothing."""

from pathlib import Path

import pytest

from tests.kaggle_sim.hurts import HURTS
from tests.kaggle_sim.simulation import shipped_trunk, simulate

pytestmark = pytest.mark.slow


def test_left_alone_it_solves_some_tasks_in_time(tmp_path: Path) -> None:
    outcome = simulate(tmp_path / "kaggle", 240, trunk=shipped_trunk())
    assert outcome.complaints() == []
    assert outcome.answered == outcome.inputs
    assert outcome.solved > 0


@pytest.mark.parametrize("name", HURTS)
def test_hurt_it_ends_in_time_with_what_it_had_reached(name: str, tmp_path: Path) -> None:
    outcome = simulate(tmp_path / "kaggle", 90, HURTS[name], shipped_trunk())
    assert outcome.complaints() == []
    assert outcome.answered > 0
