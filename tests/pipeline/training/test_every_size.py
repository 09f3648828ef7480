"""Every setting that is a number, at a million million: refused before work begins, or harmless, and known to be so."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from augment.errors import UserError
from pipeline.config.run_config import ConfigError, RunConfig, override
from pipeline.config.setting_names import flatten
from pipeline.recipes.registry import recipe
from pipeline.runtime import machine
from pipeline.training.size_limits import check_sizes
from tests.helpers.commands import refuse, run
from tests.helpers.sources import FIRST, write_source

HUGE = 10**12
PROBES = (1, 0.5, 0.25, 4, 64)
SETTINGS = flatten(recipe("kaggle").model_dump())

LIMITS = {
    "selection.limit": "there are no more tasks",
    "puzzles.pairs": "a task has no more",
    "puzzles.workers": "limited by the cores, with a line",
    "model.equilibrium.memory": "limited by the iterations",
    "train.warmup": "limited by the steps",
    "train.checkpoint_every": "a final checkpoint is written in any case",
    "train.log_every": "limited by the steps",
    "train.micro_batch": "limited by the batch",
    "predict.augmentations": "limited by the puzzle set",
    "predict.batch_size": "limited by the test inputs",
    "predict.rescore": "limited by the candidates",
}
UNATTENDED = {
    "unattended.first_views": "limited by the puzzle set",
    "unattended.restarts": "limited by the budget",
    "unattended.patience": "limited by the budget",
}
"""Both are numbers of which no more are used than there is work or time."""
VALUES = {
    *("seed", "train.lr", "train.weight_decay", "train.id_lr", "train.id_weight_decay", "train.muon_lr"),
    *("train.halting_loss", "train.evidence.kl_weight", "train.evidence.free_bits"),
    *("predict.noise", "predict.temperature"),
}
"""Numbers that decide no amount of work; a loss or gradient that is not finite ends training."""
LATER = {
    "train.hold_out": "refused once the number of tasks is known",
    "train.symmetries": "symmetries are drawn, not stored (tests/augment/test_symmetry.py)",
}


def change(name: str, value: float) -> RunConfig:
    """A small config, or that of an unattended run, with this value."""
    if name.startswith("unattended."):
        return override(recipe("kaggle"), {"budget": "1h", name: value})
    return override(recipe("smoke"), {name: value})


def is_number(name: str) -> bool:
    """Whether the setting takes a number; some are null by default."""
    for probe in PROBES:
        try:
            value = flatten(change(name, probe).model_dump())[name]
        except ConfigError:
            continue
        return isinstance(value, int | float) and not isinstance(value, bool)
    return False


NUMBERS = [name for name in SETTINGS if is_number(name)]


HARMLESS = LIMITS.keys() | UNATTENDED.keys() | VALUES | LATER.keys()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_refused_before_work_begins_or_decides_no_work(name: str) -> None:
    with nullcontext() if name in HARMLESS else pytest.raises(UserError, match=re.escape(name)):
        check_sizes(change(name, HUGE))


def test_the_numbers_are_found() -> None:
    assert len(NUMBERS) > 65
    assert set(NUMBERS) >= HARMLESS


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_below_zero_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(name)):
        change(name, -1)


def test_a_run_with_all_harmless_numbers_at_once_is_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "WORKERS_PER_CORE", 1)
    monkeypatch.setattr(machine, "cpu_count", lambda: 1)
    source = write_source(tmp_path / "tasks", FIRST)
    largest = [word for name in LIMITS for word in ("--set", f"{name}={2**63 - 1}")]
    words = ("--recipe", "smoke", "--set", "train.steps=1", "--set", "puzzles.augmentations=1", *largest)
    assert run("solve", source, *words, "--run-dir", tmp_path / "run") == 0
    assert f"puzzles.workers is {2**63 - 1}, and this machine has 1 cores: 1 are started" in capsys.readouterr().out
    held_out = (
        "train",
        "--puzzles",
        tmp_path / "run" / "puzzles",
        "--recipe",
        "smoke",
        "--run-dir",
        tmp_path / "other",
    )
    assert f"train.hold_out is {HUGE}" in refuse(capsys, *held_out, "--set", f"train.hold_out={HUGE}")
