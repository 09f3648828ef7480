"""A model trained on 9x9 Sudokus and tested on smaller ones."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from augment import Task
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config.run_config import RunConfig, override
from pipeline.data.build import gather, make_puzzle_set
from pipeline.experiments.exact_match import exact_match
from pipeline.experiments.other_sides import match_on_side
from pipeline.experiments.scales import base_config
from pipeline.experiments.sizes_table import attention
from pipeline.experiments.spec import se_rrm
from pipeline.runtime.console import Console
from pipeline.runtime.run_folder import RunFolder
from pipeline.time_budget import Budget
from pipeline.training.train import train
from solver.data.batch import Batch
from solver.data.batches import find_palette
from solver.model.model import RecursiveModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Task, RunConfig]:
    """A model with a symbol axis after two training steps on 9x9 boards, their task, and the config."""
    base = base_config("sudoku9", "smoke")
    config = override(base, {**se_rrm(base.model), "train.steps": 2, "seed": 1})
    sources = gather([config.source], config.selection.selection(), [])
    puzzle_set = make_puzzle_set(sources, config.puzzles, config.seed, config.model.board_side)
    run = RunFolder(tmp_path_factory.mktemp("sides") / "run", config)
    run.screen = Console(quiet=True).screen
    return train(config, puzzle_set, run, Budget(None)), sources[0].tasks[0], config


def random_boards(side: int, digits: int, board: int) -> Batch:
    """Boards of this side, whose cells have the numbers of the upper left corner of a board of side `board`."""
    tokens_BC = torch.randint(2, 3 + digits, (3, side**2), generator=torch.Generator().manual_seed(0))
    rows, columns = torch.arange(side**2) // side, torch.arange(side**2) % side
    cells_BC = (rows * board + columns).repeat(3, 1)
    symbols_BV = (torch.arange(12) < 3 + digits).repeat(3, 1)
    return Batch(tokens_BC, tokens_BC, cells_BC, torch.arange(3), symbols_BV=symbols_BV)


@pytest.mark.parametrize("changes", [se_rrm, attention], ids=["symbols", "attention"])
@pytest.mark.parametrize("side", [4, 6])
def test_weights_know_rows_and_columns_but_no_side(changes: Any, side: int) -> None:
    """A model for the smaller board predicts the same as the model for the larger board in its corner."""
    base = base_config("sudoku9", "smoke")
    large = override(base, dict(changes(base.model))).model
    torch.manual_seed(0)
    model = RecursiveModel(large)
    small = RecursiveModel(replace(large, board_side=side))
    small.load_state_dict(model.state_dict())
    ids_BI = torch.randn(3, large.id_length)
    with torch.no_grad():
        batches = [random_boards(side, side, each.config.board_side) for each in (model, small)]
        of_large = model(model.initial_latents(batches[0]), batches[0], ids_BI)
        of_small = small(small.initial_latents(batches[1]), batches[1], ids_BI)
    assert_close(of_large.logits_BCV, of_small.logits_BCV)


def test_smaller_boards_are_asked_under_the_trained_row_without_the_other_digits(
    trained: tuple[Checkpoint, Task, RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, task, _ = trained
    asked: list[Any] = []

    def note(*given: Any) -> Any:
        asked.append(given)
        return exact_match(*given)

    monkeypatch.setattr("pipeline.experiments.other_sides.exact_match", note)
    right = match_on_side(checkpoint, task, 4, CPU, steps=3)
    assert right.shape == (len(task.tests), 3)
    ((config, puzzle_set, (small,)),) = ((each[0].config, each[1], each[2]) for each in asked)
    assert config["model"]["board_side"] == puzzle_set.board_side == 4
    assert puzzle_set.keys() == checkpoint.keys
    assert {pair.input.shape for pair in small.tests} == {(4, 4)}
    assert find_palette(puzzle_set, "task")[0].tolist() == [True] * 5 + [False] * 5


def test_the_trained_side_gives_what_exact_match_gives(trained: tuple[Checkpoint, Task, RunConfig]) -> None:
    checkpoint, task, config = trained
    sources = gather([config.source], config.selection.selection(), [])
    puzzle_set = make_puzzle_set(sources, config.puzzles, config.seed, config.model.board_side)
    ours = match_on_side(checkpoint, task, 9, CPU)
    assert np.array_equal(ours, exact_match(checkpoint, puzzle_set, [task], CPU))


@pytest.mark.parametrize("setting", [{"model.positions": "rope"}, {"model.mixer": "mlp", "model.symbols": False}])
def test_models_of_one_side_are_refused(trained: tuple[Checkpoint, Task, RunConfig], setting: dict[str, Any]) -> None:
    checkpoint, task, config = trained
    changes = setting if "model.positions" in setting else setting | {"model.id_slots": 1, "model.positions": "rope"}
    changed = replace(checkpoint, config=override(config, changes).model_dump(mode="json"))
    with pytest.raises(ValueError, match=r"train it with model\.positions=rope2d and model\.mixer=attention"):
        match_on_side(changed, task, 4, CPU)
