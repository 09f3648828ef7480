"""Untrained checkpoints on real tasks: their answers are wrong, but they are answers."""

from typing import Any

import torch

from augment import PuzzleSet, Selection, SourcedTasks, build_puzzle_set, load_tasks
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config.run_config import PredictSettings, RunConfig
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel

MODEL = ModelConfig(
    hidden=32, heads=2, expansion=1, layers=1, h_cycles=1, l_cycles=1, id_slots=1, max_steps=3, canvas="task",
    board_side=12,
)  # fmt: skip


def make_set(augmentations: int = 3, **selection: Any) -> PuzzleSet:
    """Of the tasks of ARC-AGI-1, by default seven of different size, on a small board."""
    chosen = Selection(**(selection or {"max_side": 9, "limit": 7}))
    tasks = load_tasks("arc-agi-1/training", chosen)
    return build_puzzle_set([SourcedTasks("a", "scored", tasks)], augmentations, seed=0, board_side=MODEL.board_side)


def make_checkpoint(puzzle_set: PuzzleSet, model: ModelConfig = MODEL, seed: int = 0, **predict: Any) -> Checkpoint:
    """One whose ID rows differ and whose halting head is not at its start, so that the answers differ too."""
    torch.manual_seed(seed)
    config = RunConfig(recipe="untrained", source="a", model=model, predict=PredictSettings(**predict))
    network = RecursiveModel(model)
    torch.nn.init.normal_(network.halt_head.weight)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rows = torch.randn(len(puzzle_set), model.id_length)
    return Checkpoint(weights, None, rows, puzzle_set.keys(), 1, config.model_dump(mode="json"), puzzle_set.seen)
