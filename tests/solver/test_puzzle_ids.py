"""ID rows by puzzle, transform and task; colours drawn at each visit; transforms and symbols of examples."""

from typing import Any, get_args

import numpy as np
import pytest
import torch

from augment import Augmentation, Draws, PuzzleSet, Selection, SourcedTasks, build_puzzle_set, load_tasks, puzzle_key
from augment.augmentation import PERMUTATIONS
from augment.colour_draws import find_fixed
from solver.data.batch import Batch, move_cells
from solver.data.batches import PuzzleDataset
from solver.data.puzzle_ids import Ids, check_draws, find_rows
from solver.data.tokens import COLOUR


def make_set(draws: Draws = "outputs", augmentations: int = 23) -> PuzzleSet:
    scored = load_tasks("arc-agi-1/training", Selection(max_side=6, limit=6))
    train = load_tasks("arc-agi-1/evaluation", Selection(max_side=6, limit=3))
    sources = [SourcedTasks("a", "scored", scored), SourcedTasks("b", "train", train)]
    return build_puzzle_set(sources, augmentations, seed=3, board_side=12, draws=draws)


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    return make_set()


def test_every_task_has_eight_rows_by_transform_and_one_by_task(puzzle_set: PuzzleSet) -> None:
    names = [task.id for task in puzzle_set.tasks]
    keys, rows = find_rows(puzzle_set, "transform")
    assert keys == [puzzle_key(name, dihedral * PERMUTATIONS) for name in names for dihedral in range(8)]
    for puzzle, row in enumerate(rows.tolist()):
        task = names[puzzle_set.task_of(puzzle)]
        number = int(puzzle_set.augmentations[puzzle])
        assert keys[row] == puzzle_key(task, number // PERMUTATIONS * PERMUTATIONS)
    for ids in ("task", "shared"):
        keys, rows = find_rows(puzzle_set, ids)
        assert keys == names
        assert rows.tolist() == [puzzle_set.task_of(puzzle) for puzzle in range(len(puzzle_set))]
    keys, rows = find_rows(puzzle_set, "augmentation")
    assert (keys, rows.tolist()) == (puzzle_set.keys(), list(range(len(puzzle_set))))


def test_a_task_has_eight_rows_though_the_set_holds_fewer_of_its_puzzles() -> None:
    small = make_set(augmentations=0)
    assert (len(small), len(find_rows(small, "transform")[0])) == (9, 72)


def colours_of(examples: PuzzleDataset, seed: int, step: int, size: int = 64) -> np.ndarray:
    return examples._draw_colours(np.arange(size) % len(examples.tasks), seed, step)


def test_fresh_colours_are_a_function_of_seed_step_and_place(puzzle_set: PuzzleSet) -> None:
    one = PuzzleDataset(puzzle_set, ids="transform")
    other = PuzzleDataset(puzzle_set, "full", ids="task")
    assert (colours_of(one, 4, 7) == colours_of(other, 4, 7)).all()
    assert (colours_of(one, 4, 7)[:9] == colours_of(one, 4, 7, size=9)).all()
    assert (colours_of(one, 4, 7) != colours_of(one, 4, 8)).any()
    assert (colours_of(one, 4, 7) != colours_of(one, 5, 7)).any()


@pytest.mark.parametrize("draws", ["outputs", "black"])
def test_fresh_colours_leave_the_fixed_ones_alone(draws: Any) -> None:
    examples = PuzzleDataset(make_set(draws), ids="transform")
    colours = colours_of(examples, 0, 0, 400)
    for puzzle, colour_draws in enumerate(colours):
        fixed = find_fixed(examples.puzzle_set.tasks[examples.tasks[puzzle % len(examples.tasks)]], draws)
        assert (colour_draws[fixed] == np.flatnonzero(fixed)).all()
    assert len(np.unique(colours, axis=0)) > 300


def test_ids_of_puzzles_keep_the_colours_of_their_puzzle() -> None:
    puzzle_set = make_set("distinct")
    for ids in ("augmentation", "shared"):
        examples = PuzzleDataset(puzzle_set, ids=ids)
        assert (colours_of(examples, 1, 2, len(puzzle_set)) == examples.colours).all()


@pytest.mark.parametrize("canvas", ["full", "task"])
def test_parts_of_several_processes_are_the_whole_batch(puzzle_set: PuzzleSet, canvas: Any) -> None:
    examples = PuzzleDataset(puzzle_set, canvas, ids="transform")
    samplers = [examples.sampler(4) for _ in range(3)]
    for _ in range(4):
        whole = examples.training_batch(samplers[0], 11)
        cuts = zip(samplers[1:], (slice(0, 4), slice(4, 11)), strict=True)
        parts = [
            examples.training_batch(sampler, 11, part=cut).padded(whole.cells_BS.shape[1]) for sampler, cut in cuts
        ]
        for name in Batch.__dataclass_fields__:
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name


def test_a_resumed_sampler_draws_the_same_colours(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(puzzle_set, ids="task")
    sampler = examples.sampler(2, keep_rest=True)
    again = examples.sampler(2, keep_rest=True)
    for size in (7, 3):
        examples.training_batch(sampler, size)
    position = sampler.position
    batch = examples.training_batch(sampler, 9)
    again.resume(position)
    assert torch.equal(examples.training_batch(again, 9).tokens_BS, batch.tokens_BS)


def test_all_transforms_come_equally_often(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(puzzle_set, ids="transform")
    sampler = examples.sampler(0)
    transforms_B = torch.cat([examples.training_batch(sampler, 64).transforms_B for _ in range(60)])
    assert torch.bincount(transforms_B, minlength=8).min() > 0.8 * len(transforms_B) / 8


@pytest.mark.parametrize("ids", get_args(Ids))
def test_an_example_names_its_row_transform_and_symbols(ids: Ids) -> None:
    puzzle_set = make_set("outputs" if ids in ("transform", "task") else "distinct")
    examples = PuzzleDataset(puzzle_set, ids=ids)
    puzzles = np.arange(len(puzzle_set))
    batch = examples.render(puzzles, np.zeros_like(puzzles))
    assert batch.puzzles_B.tolist() == examples.id_rows.tolist()
    for row, number in enumerate(puzzle_set.augmentations.tolist()):
        task = puzzle_set.task_of(row)
        augmentation = Augmentation.from_number(number)
        grids = [grid for pair in puzzle_set.training_pairs(task) for grid in pair.grids()]
        grids += [pair.input for pair in puzzle_set.tasks[task].tests]
        grid_colours = {int(token) + COLOUR for grid in grids for token in np.unique(augmentation.apply(grid))}
        assert int(batch.transforms_B[row]) == augmentation.dihedral
        assert set(batch.symbols_BV[row].nonzero()[:, 0].tolist()) == {0, 1} | grid_colours
    assert PuzzleDataset(puzzle_set, ids=ids, palette="all").render(puzzles, np.zeros_like(puzzles)).symbols_BV.all()


def test_no_test_output_is_in_a_palette() -> None:
    puzzle_set = make_set()
    for examples in (PuzzleDataset(puzzle_set), PuzzleDataset(puzzle_set, ids="transform")):
        for number, (task, role) in enumerate(zip(puzzle_set.tasks, puzzle_set.roles, strict=True)):
            public = [grid for pair in task.demonstrations for grid in pair.grids()]
            public += [grid for pair in task.tests for grid in (pair.grids() if role == "train" else (pair.input,))]
            grid_colours = set(np.concatenate([grid.ravel() for grid in public]).tolist())
            assert set(np.flatnonzero(examples.palette[number]).tolist()) == grid_colours


def test_symbols_hold_all_that_is_trained_on(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(puzzle_set, ids="task")
    sampler = examples.sampler(1)
    for _ in range(5):
        batch = examples.training_batch(sampler, 32)
        for tokens_BS in (batch.tokens_BS, batch.labels_BS):
            assert batch.symbols_BV.gather(1, tokens_BS).all()


def test_a_board_moved_takes_its_symbols_along(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(puzzle_set, "full")
    batch = examples.render(np.arange(6), np.zeros(6, np.int64))
    colours_BK = np.stack([np.random.default_rng(row).permutation(10) for row in range(6)])
    recoloured = move_cells(batch, np.tile(np.arange(144), (6, 1)), colours_BK)
    assert recoloured.symbols_BV.gather(1, recoloured.tokens_BS).all()
    assert recoloured.symbols_BV.sum(1).tolist() == batch.symbols_BV.sum(1).tolist()
    for row, colours in enumerate(colours_BK):
        assert torch.equal(
            recoloured.symbols_BV[row, COLOUR + torch.from_numpy(colours)], batch.symbols_BV[row, COLOUR:]
        )


def test_a_set_of_the_wrong_kind_is_refused() -> None:
    distinct = make_set("distinct")
    black = make_set("black")
    for ids in ("augmentation", "shared"):
        check_draws(distinct, ids, "outputs")
        with pytest.raises(ValueError, match=r"build the set with --ids augmentation, or set puzzles.ids=transform or"):
            check_draws(black, ids, "black")
    for ids in ("transform", "task"):
        check_draws(black, ids, "black")
        with pytest.raises(ValueError, match=r"--fixed-colours outputs.*puzzles.fixed_colours=black"):
            check_draws(black, ids, "outputs")
        with pytest.raises(ValueError, match=rf"--ids {ids} --fixed-colours black, or set puzzles.ids=augmentation"):
            check_draws(distinct, ids, "black")
        with pytest.raises(ValueError, match="need a set of transforms"):
            PuzzleDataset(distinct, ids=ids)
