"""Runs that are interrupted at a step and compared with runs that were not."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from pipeline.checkpoints.manager import WRITER
from solver.training.learner import Learner
from solver.training.step_result import StepResult
from tests.helpers.commands import run

TRAIN = ("--recipe", "smoke", "--set", "model.exploration=0.5", "--set", "train.checkpoint_every=4")


STEPS = ("--set", "train.steps=17", "--set", "train.log_every=5")
OPTIONAL = [
    *("train.optimizer=normuon", "train.id_optimizer=adam", "train.schedule=wsd", "train.min_ratio=0.1"),
    *("train.loss=softmax", "train.label_smoothing=0.1", "train.corrupted=0.5", "model.halting=random"),
    *("model.dropout=0.1", "model.positions=rope2d"),
]
"""Ways of learning that have state of their own, or draw numbers."""


def build_small_set(folder: Path) -> None:
    """Build a set of six real tasks, some of them trained on with all their pairs."""
    chosen = ("--score", "arc-agi-1/training", "--max-side", "4", "--limit", "6")
    assert run("build", *chosen, "--augmentations", "3", "--out", folder) == 0


def capture_learners(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """Return a list to which every learner that is made from now on is added."""
    learners: list[Learner] = []
    make_learner = Learner.__init__

    def capture(learner: Learner, *given: Any) -> None:
        make_learner(learner, *given)
        learners.append(learner)

    monkeypatch.setattr(Learner, "__init__", capture)
    return learners


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint but the slots, by file and name."""
    files = [file for file in sorted(folder.glob("*.safetensors")) if "slots" not in file.name]
    return {f"{file.stem}/{name}": value for file in files for name, value in load_file(file).items()}


def lines(folder: Path) -> list[dict]:
    """The metrics without times."""
    timed = ("seconds", "examples_per_second")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


def same_run(one: Path, other: Path) -> None:
    for name in ("final", "step_0000016", "step_0000017"):
        assert_close(tensors(one / "checkpoints" / name), tensors(other / "checkpoints" / name), rtol=0, atol=0)
    slots = [load_file(folder / "checkpoints" / "step_0000017" / "slots_0000.safetensors") for folder in (one, other)]
    assert_close(*slots, rtol=0, atol=0)
    assert lines(one) == lines(other)


def after(step: int, action: Callable[[], object]) -> Callable[..., StepResult]:
    """Learner.step, followed by an action once that step is done."""
    make_step = Learner.step

    def patched(learner: Learner, *given: Any) -> StepResult:
        result = make_step(learner, *given)
        if learner.steps == step:
            action()
        return result

    return patched


class Crash(BaseException):
    """What nothing catches: as good as a kill."""


def crash() -> None:
    """As a kill, but that a checkpoint under way is written first: else luck decides which one is the last."""
    for thread in threading.enumerate():
        if thread.name == WRITER:
            thread.join()
    raise Crash
