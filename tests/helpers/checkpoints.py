"""Small checkpoints, and damage to their files."""

from pathlib import Path

import torch

from augment import Overlap, SeenTasks, puzzle_key
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.recipes.registry import recipe
from solver.model.model import RecursiveModel

KEYS = [puzzle_key(task, number) for task in ("00d62c1b", "007bbfb7") for number in (0, 5, 362881)]


def make_checkpoint(keys: list[str] = KEYS) -> Checkpoint:
    config = recipe("smoke")
    model = RecursiveModel(config.model)
    average = {name: parameter.detach() + 1 for name, parameter in model.named_parameters()}
    rows = torch.randn(len(keys), config.model.id_length)
    seen, leaks = SeenTasks({"0a": ["12", "34"], "0b": ["56"]}), (Overlap("00d62c1b", "0b", by_content=True),)
    return Checkpoint(model.state_dict(), average, rows, keys, 7, config.model_dump(mode="json"), seen, leaks)


def harm(file: Path, damage: str) -> None:
    """Cut a file short, change a bit of it, or remove it."""
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
