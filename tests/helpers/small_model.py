"""A model, batches and a learner small enough to be checked by hand."""

from dataclasses import replace

import torch

from solver.data.batch import Batch
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.learner import Learner, LearnerConfig

CONFIG = ModelConfig(
    hidden=16,
    heads=2,
    board_side=4,
    id_slots=2,
    h_cycles=1,
    l_cycles=1,
    max_steps=3,
    exploration=0.0,
    canvas="task",
)


def make_model(config: ModelConfig = CONFIG) -> RecursiveModel:
    torch.manual_seed(0)
    return RecursiveModel(config)


def make_batch(widths: list[int], first_puzzle: int = 0) -> Batch:
    """Row i has widths[i] cells and asks for its own token; the batch is as wide as its widest row."""
    cells_BS = torch.arange(max(widths)).repeat(len(widths), 1)
    used_BS = cells_BS < torch.tensor(widths)[:, None]
    puzzles_B = first_puzzle + torch.arange(len(widths))
    tokens_BS = ((puzzles_B[:, None] + cells_BS) % 11 + 1) * used_BS
    return Batch(tokens_BS, tokens_BS, cells_BS.masked_fill(~used_BS, -1), puzzles_B)


def make_learner(model: RecursiveModel, rows: int = 8, **settings: object) -> Learner:
    config = replace(LearnerConfig(lr=1e-3, warmup=0, weight_decay=0.0, total_steps=300), **settings)
    return Learner(model, PuzzleEmbedding(rows, model.config.id_length), config)


def gradients_of(learner: Learner) -> list[torch.Tensor]:
    return [parameter.grad for parameter in learner.model.parameters() if parameter.grad is not None]
