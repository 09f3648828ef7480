"""A real training process, killed again and again, ends up where one that was left alone does."""

from pathlib import Path

import pytest

from benchmarks.bench_kills import run_and_kill


def test_five_kills_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte: the newest checkpoint after each kill, in the end the final one and the metrics too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    outcomes = run_and_kill(tmp_path / "kills", kills=5, seed=0, steps=120)
    assert [outcome.differs for outcome in outcomes] == [()] * 6
    assert sum(outcome.began is not None for outcome in outcomes) >= 2, "some starts went on from a checkpoint"
