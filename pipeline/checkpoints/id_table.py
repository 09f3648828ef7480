"""Builds ID tables: new ones, and those with the rows of a checkpoint, which are matched by their keys."""

import torch
from torch import Tensor

from augment.task import KEY_SEPARATOR
from pipeline.checkpoints.checkpoint import Checkpoint, mean_row
from solver.model.config import ModelConfig
from solver.model.puzzle_embedding import PuzzleEmbedding


def match_rows(checkpoint: Checkpoint, keys: list[str]) -> tuple[PuzzleEmbedding, int]:
    """Build an ID table for `keys` from the checkpoint's rows with the same keys.

    Returns:
        The table, and how many rows were matched; the others start at `Checkpoint.new_row`.
    """
    row_of_key = {key: row for row, key in enumerate(checkpoint.keys)}
    # Keys without a row get -1, which selects the start row that is appended last below.
    matches = torch.tensor([row_of_key.get(key, -1) for key in keys])
    id_rows = checkpoint.id_rows
    shared = checkpoint.shared_rows
    shared_size = 0 if shared is None else shared.shape[1]
    table = PuzzleEmbedding(len(keys), id_rows.shape[1] + shared_size, shared_size, number_tasks(keys))
    table.weights_PI.copy_(torch.cat([id_rows, checkpoint.new_row()[None]])[matches])
    if shared is not None:
        new_tasks = list(dict.fromkeys(map(find_task, keys)))
        old_tasks = list(dict.fromkeys(map(find_task, checkpoint.keys)))
        numbers = {task: number for number, task in enumerate(old_tasks)}
        start = mean_row(shared) if checkpoint.start_shared is None else checkpoint.start_shared
        table.shared_GI.copy_(torch.cat([shared, start[None]])[[numbers.get(task, -1) for task in new_tasks]])
    return table, int((matches >= 0).sum())


def new_table(keys: list[str], model: ModelConfig) -> PuzzleEmbedding:
    """Build an untrained ID table with one row for each key."""
    return PuzzleEmbedding(len(keys), model.id_length, model.shared_id_length, number_tasks(keys))


def find_task(key: str) -> str:
    """Return the task ID in a row's key."""
    return key.partition(KEY_SEPARATOR)[0]


def number_tasks(keys: list[str]) -> Tensor:
    """Return the task number of each row (rows,); tasks are numbered in the order in which the keys name them."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(find_task(key), len(numbers)) for key in keys], dtype=torch.int64)
