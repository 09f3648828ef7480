"""Exact match of a checkpoint's predictions with known outputs, after each supervision step.

This is for puzzles whose output fills the board (Sudoku, Maze). Predictions are made without augmentation or vote.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from augment import PuzzleSet, Task
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.compilation import explain_compilation
from pipeline.checkpoints.load_model import load_model, prepare_model
from pipeline.training.metrics import HELD_OUT_BOARDS, example_batches
from solver.data.batches import PuzzleDataset
from solver.data.tokens import encode
from solver.training.deep_supervision import predict_steps


@explain_compilation()
def exact_match(
    checkpoint: Checkpoint,
    puzzle_set: PuzzleSet,
    tasks: Sequence[Task],
    device: torch.device,
    steps: int | None = None,
) -> NDArray[np.bool_]:
    """Return whether every cell is right, for each test input and supervision step.

    Predictions use the averaged weights and make all supervision steps, without halting.

    Args:
        checkpoint: the trained model.
        puzzle_set: the tasks as the model was trained on them.
        tasks: the same tasks with their test outputs.
        device: where to predict.
        steps: number of supervision steps; None for as many as in training.

    Returns:
        (test inputs, supervision steps), test inputs in the order of `tasks`.
    """
    config = checkpoint.run_config
    model, table = load_model(checkpoint, puzzle_set)
    prepare_model(model, table, config.train, device)
    examples = PuzzleDataset(puzzle_set, "full", ids=config.puzzles.ids, palette=config.model.palette)
    side = puzzle_set.board_side
    truth = {}
    for task in tasks:
        for number, pair in enumerate(task.tests):
            assert pair.output is not None
            truth[task.id, number] = torch.from_numpy(encode(pair.output, side).astype(np.int64).ravel())
    puzzles, pairs = examples.test_inputs(1)
    owners = examples.tasks[puzzles]
    # The pairs of a task are numbered in the order: training pairs, held-out pairs, test inputs.
    first = (examples.trained + examples.held)[examples.tasks[puzzles]]
    names = [puzzle_set.tasks[owner].id for owner in owners]
    matches: dict[tuple[str, int], NDArray[np.bool_]] = {}
    boards = config.predict.batch_size or HELD_OUT_BOARDS
    for batch, rows in example_batches(examples, puzzles, pairs, config.model, boards):
        queries = [(names[row], int(pairs[row] - first[row])) for row in rows]
        labels_BS = torch.stack([truth[query] for query in queries]).to(device)
        outputs = predict_steps(model.eval(), table, batch.to(device), steps)
        right_BT = torch.stack([(out.logits_BCV.argmax(-1) == labels_BS).all(1) for out in outputs], 1)
        matches |= dict(zip(queries, right_BT.cpu().numpy(), strict=True))
    return np.stack([matches[query] for query in truth])
