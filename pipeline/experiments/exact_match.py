"""Exact match: a checkpoint and test inputs with known answers in, which are right after which supervision step out.

For puzzles whose answer fills the board (Sudoku, Maze): nothing is augmented and nothing voted.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from augment import PuzzleSet, Task
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.load_model import load_model, prepare_model
from pipeline.training.metrics import HELD_OUT_BOARDS, example_batches
from solver.data.batches import PuzzleDataset
from solver.data.tokens import encode
from solver.training.deep_supervision import predict_steps


def exact_match(
    checkpoint: Checkpoint,
    puzzle_set: PuzzleSet,
    tasks: Sequence[Task],
    device: torch.device,
    steps: int | None = None,
) -> NDArray[np.bool_]:
    """Whether every cell is right, (test inputs, supervision steps), by the averaged weights, without halting.

    Test inputs in the order of the tasks, which are those of the set with their answers; steps None: as many as in
    training.
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
    first = (examples.trained + examples.held)[examples.tasks[puzzles]]
    names = [puzzle_set.tasks[owner].id for owner in owners]
    found: dict[tuple[str, int], NDArray[np.bool_]] = {}
    boards = config.predict.batch_size or HELD_OUT_BOARDS
    for batch, rows in example_batches(examples, puzzles, pairs, config.model, boards):
        asked = [(names[row], int(pairs[row] - first[row])) for row in rows]
        labels_BS = torch.stack([truth[each] for each in asked]).to(device)
        outputs = predict_steps(model.eval(), table, batch.to(device), steps)
        right_BT = torch.stack([(out.logits_BCV.argmax(-1) == labels_BS).all(1) for out in outputs], 1)
        found |= dict(zip(asked, right_BT.cpu().numpy(), strict=True))
    return np.stack([found[each] for each in truth])
