"""Exact match: which test inputs count as right after which supervision step."""

from pathlib import Path

import numpy as np
import pytest
import torch

from augment import load_tasks, open_puzzle_set
from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.experiments.exact_match import exact_match
from solver.data.tokens import COLOUR
from solver.model.model import RecursiveModel
from solver.model.output import Output
from tests.helpers.commands import run

SOURCE = "sudoku-4x4/30+12"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables") / "out"
    assert run("table", "latents", "--row", "one", "--out", out) == 0
    return out / "one" / "seed-0"


@pytest.mark.parametrize("most", [12, 5, 1])
def test_an_answer_is_right_where_every_cell_is(trained: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is patched: at supervision step 2 test inputs 0 and 5 are right, and 7 except for one cell.

    No more than `most` test inputs fit in memory at once.
    """
    tasks = load_tasks(SOURCE)
    answers = {tuple(pair.input.ravel() + COLOUR): pair.output for pair in tasks[0].tests}
    knows = {tuple(tasks[0].tests[number].input.ravel() + COLOUR): number for number in (0, 5, 7)}
    forward, calls = RecursiveModel.forward, []

    def patched(model: RecursiveModel, latents: object, batch: object, *rest: object, **more: object) -> Output:
        if len(batch) > most:  # type: ignore[arg-type]
            raise torch.OutOfMemoryError("CUDA out of memory")
        output = forward(model, latents, batch, *rest, **more)  # type: ignore[arg-type]
        calls.append(len(batch))  # type: ignore[arg-type]
        output.logits_BCV.zero_()
        for row, asked in enumerate(map(tuple, batch.tokens_BS.tolist())):  # type: ignore[attr-defined]
            if asked in knows and (len(calls) - 1) % 3 == 1:
                answer = answers[asked]
                assert answer is not None
                cells = torch.from_numpy(answer.astype(np.int64).ravel() + COLOUR)
                if knows[asked] == 7:
                    cells[3] += 1
                output.logits_BCV[row] = torch.nn.functional.one_hot(cells, 12)
        return output

    monkeypatch.setattr(RecursiveModel, "forward", patched)
    checkpoint, puzzle_set = load_checkpoint(trained / "checkpoints" / "final"), open_puzzle_set(trained / "puzzles")
    right = exact_match(checkpoint, puzzle_set, tasks, torch.device("cpu"), steps=3)
    assert max(calls) <= most
    assert right.shape == (12, 3)
    assert not right[:, [0, 2]].any()
    assert np.flatnonzero(right[:, 1]).tolist() == [0, 5]


def test_as_many_steps_as_in_training_by_default(trained: Path) -> None:
    checkpoint, puzzle_set = load_checkpoint(trained / "checkpoints" / "final"), open_puzzle_set(trained / "puzzles")
    assert exact_match(checkpoint, puzzle_set, load_tasks(SOURCE), torch.device("cpu")).shape == (12, 2)
