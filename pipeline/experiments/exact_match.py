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
from pipeline.training.metrics import compute_examples, held_out_batches
from solver.data.batch import Batch
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

    Raises:
        OutOfMemoryError: if a single example does not fit. Larger batches that do not fit are made smaller.
    """
    config = checkpoint.run_config
    model, table = load_model(checkpoint, puzzle_set)
    prepare_model(model, table, config.train, device)
    examples = PuzzleDataset(puzzle_set, "full", ids=config.puzzles.ids, palette=config.model.palette)
    truth = _known_outputs(tasks, puzzle_set.board_side)
    puzzles, pairs = examples.test_inputs(1)
    owners = examples.tasks[puzzles]
    # The pairs of a task are numbered in the order: training pairs, held-out pairs, test inputs.
    first = (examples.trained + examples.held)[examples.tasks[puzzles]]
    names = [puzzle_set.tasks[owner].id for owner in owners]

    def match(batch: Batch, rows: np.ndarray) -> dict[tuple[str, int], NDArray[np.bool_]]:
        queries = [(names[row], int(pairs[row] - first[row])) for row in rows]
        labels_BS = torch.stack([truth[query] for query in queries]).to(device)
        outputs = predict_steps(model.eval(), table, batch.to(device), steps)
        right_BT = torch.stack([(out.logits_BCV.argmax(-1) == labels_BS).all(1) for out in outputs], 1)
        return dict(zip(queries, right_BT.cpu().numpy(), strict=True))

    matches: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for part in compute_examples(examples, puzzles, pairs, held_out_batches(config, device), match):
        matches |= part
    return np.stack([matches[query] for query in truth])


def _known_outputs(tasks: Sequence[Task], side: int) -> dict[tuple[str, int], torch.Tensor]:
    """Return the tokens of every test output (cells,), by task ID and number of the test input, in this order."""
    truth = {}
    for task in tasks:
        for number, pair in enumerate(task.tests):
            assert pair.output is not None
            truth[task.id, number] = torch.from_numpy(encode(pair.output, side).astype(np.int64).ravel())
    return truth
