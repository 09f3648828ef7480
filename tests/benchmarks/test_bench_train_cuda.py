"""The CUDA branches of bench_train, on a pretended GPU: events, memory, one learner at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import bench_train
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.pretended_gpu import pretended_gpu


class Event:
    """Stands in for an event of a stream; any two are a millisecond apart."""

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self) -> None:
        pass

    def elapsed_time(self, _: "Event") -> float:
        return 1.0


def test_every_kind_is_timed_on_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_train.PRODUCTS, "cuda", (64, 1))
    monkeypatch.setattr("pipeline.checkpoints.load_model.find_compile_error", lambda *_: "not on a pretended GPU")
    made: list[Any] = []
    make = bench_train.Trial

    def make_alone(*arguments: Any) -> bench_train.Trial:
        assert all(trial.learner is None for trial in made), "the learner before this one is gone"
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(bench_train, "Trial", make_alone)
    settings = ["train.batch_size=4", "model.board_side=8", "puzzles.augmentations=1"]
    with pretended_gpu():
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
        bench_train.main("smoke", rounds=1, threads=1, assignments=settings, out=tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    for kind in ("full, eager", "task, eager", "full, compiled", "task, compiled"):
        assert text.count(f"| {kind} |") == 2
    assert "Attention: varlen" in text
    assert "a pretended GPU" in text
    assert "No GPU was found" not in text
