"""Training states to save, and a manager of small checkpoints."""

from pathlib import Path

import torch

from augment import SeenTasks, puzzle_key
from pipeline.checkpoints.manager import CheckpointManager
from pipeline.checkpoints.training_state import TrainingState
from pipeline.recipes.small import smoke

KEYS = [puzzle_key("00d62c1b", number) for number in range(3)]


def make_keeper(folder: Path, **options: object) -> CheckpointManager:
    said: list[str] = []
    config = smoke().model_dump(mode="json")
    keeper = CheckpointManager(
        folder, config, KEYS, SeenTasks({}, complete=True), (), **{"log": said.append, **options}
    )  # type: ignore[arg-type]
    keeper.said = said  # type: ignore[attr-defined]
    return keeper


def make_state(step: int, rows: int = 3) -> TrainingState:
    """A state whose numbers tell its step, with every type that one may hold."""
    tensors = {
        "model": {"w": torch.full((4, 3), step / 3), "half": torch.full((3,), step, dtype=torch.bfloat16)},
        "average": {"w": torch.full((4, 3), step / 7)},
        "ids": {"rows": torch.full((rows, 2), float(step))},
        "optimizer": {"w/mean": torch.randn(4, 3), "w/step": torch.tensor(step)},
        "random": {"torch": torch.get_rng_state()},
    }
    slots = {"cells": torch.arange(6).view(2, 3), "halted": torch.tensor([True, False]), "none": torch.zeros(0, 4)}
    learner = {"steps": step, "scale": None, "planned": None, "micro_batch": None, "most_positions": None}
    learner |= {"failed_positions": None, "barred_positions": None, "steps_in_memory": 0}
    plain = {"learner": learner, "sampler": {"step": step}, "tally": {}, "puzzle_set": "", "seconds": 0.5}
    return TrainingState(step, tensors, [slots], plain)
