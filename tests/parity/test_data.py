"""Parity of the data pipeline with results of the published TRM: tests that `tests/parity/test_models.py` collects.

Transforms, names, hashes, encodings, grid extraction, the tiny build and the sampling of batches.
"""

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest

from augment import (
    DIHEDRALS,
    Augmentation,
    Grid,
    Pair,
    apply,
    count_distinct,
    grid_hash,
    invert,
    parse_grid,
    parse_puzzle_key,
)
from solver.data.sampler import fill_batch, visit_tasks
from solver.data.tokens import decode, encode
from tests.helpers.golden_set import pipeline_part, read_board

BLACK = 2  # token of colour 0, after pad and end mark
grid = partial(parse_grid, where="golden")


def draw_published() -> Augmentation:
    """Draw an augmentation as published, from numpy's global stream."""
    dihedral = np.random.randint(0, DIHEDRALS)
    return Augmentation(int(dihedral), (0, *np.random.permutation(np.arange(1, 10)).tolist()))


def hash_pair(pair: Pair) -> str:
    return "|".join(map(grid_hash, pair.grids()))


def puzzle_hash(pairs: list[Pair]) -> str:
    """Return the published hash of a puzzle, of its sorted pairs as two grid hashes each."""
    return sha256("|".join(sorted(map(hash_pair, pairs))).encode()).hexdigest()


def augment(pairs: list[Pair], augmentation: Augmentation) -> list[Pair]:
    return [Pair(*map(augmentation.apply, pair.grids())) for pair in pairs]


@pytest.mark.parametrize("dihedral", range(DIHEDRALS))
def test_dihedral_transforms_and_inverses(dihedral: int) -> None:
    golden = pipeline_part("dihedral")
    colours = np.arange(10, dtype=np.uint8)
    original = grid(golden["grid"])
    assert apply(original, dihedral, colours).tolist() == golden["transforms"][str(dihedral)]
    assert invert(original, dihedral, colours).tolist() == golden["inverses"][str(dihedral)]


def test_augmentations_have_the_published_names_and_effects() -> None:
    np.random.seed(pipeline_part("seed"))
    for case in pipeline_part("aug")["cases"]:
        task_id, number = parse_puzzle_key(case["name"])
        augmentation = Augmentation.from_number(number)
        assert (task_id, augmentation) == (case["inverse_name"], draw_published())
        assert case["name"].endswith(augmentation.name)
        assert augmentation.apply(grid(case["input"])).tolist() == case["augmented"]
        assert augmentation.invert(grid(case["augmented"])).tolist() == case["inverse"]


def test_grid_and_puzzle_hashes() -> None:
    for case in pipeline_part("grid_hash"):
        assert grid_hash(grid(case["grid"])) == case["sha256"]
    golden = pipeline_part("puzzle_hash")
    assert puzzle_hash([Pair(*map(grid, pair)) for pair in golden["examples"]]) == golden["sha256"]


def crop(sequence: str) -> Grid:
    """Return the grid of an encoded board, at any shift."""
    tokens = read_board(sequence)
    rows, columns = np.nonzero(tokens >= BLACK)
    return (tokens[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] - BLACK).astype(np.uint8)


def read_puzzles(build: dict) -> dict[str, list[Pair]]:
    """Read the pairs of each puzzle by its published name."""
    puzzles: dict[str, list[Pair]] = {name: [] for name in build["identifiers"][1:]}
    for split in build["splits"].values():
        bounds = split["puzzle_indices"]
        for identifier, start, end in zip(split["puzzle_identifiers"], bounds, bounds[1:], strict=False):
            boards = zip(split["inputs_seq"][start:end], split["labels_seq"][start:end], strict=True)
            pairs = [Pair(crop(before), crop(after)) for before, after in boards]
            puzzles[build["identifiers"][identifier]] += pairs
    return puzzles


def replay(build: dict, puzzles: dict[str, list[Pair]]) -> Iterator[str]:
    """Yield the puzzle names in the order of the published build, with shuffled tasks and up to 5 draws per puzzle."""
    augmentation_count = build["config"]["num_aug"]
    np.random.seed(build["config"]["seed"])
    for subset in build["config"]["subsets"]:
        task_ids = list(build[subset])
        np.random.shuffle(task_ids)
        for task_id in task_ids:
            hashes = {puzzle_hash(puzzles[task_id]): task_id}
            for _ in range(5 * augmentation_count):
                augmentation = draw_published()
                hashes.setdefault(
                    puzzle_hash(augment(puzzles[task_id], augmentation)), f"{task_id}|||{augmentation.name}"
                )
                if len(hashes) > augmentation_count:
                    break
            yield from hashes.values()


def test_the_tiny_build_has_our_puzzles_under_the_published_names() -> None:
    build = pipeline_part("tiny_build")
    puzzles = read_puzzles(build)
    names = list(replay(build, puzzles))
    assert build["identifiers"][1:] == names
    for task_id in build["training"] + build["evaluation"]:
        own = [name for name in names if parse_puzzle_key(name)[0] == task_id]
        assert len(own) <= min(build["config"]["num_aug"] + 1, count_distinct(puzzles[task_id]))
        for name in own:
            expected = augment(puzzles[task_id], Augmentation.from_number(parse_puzzle_key(name)[1]))
            assert list(map(hash_pair, puzzles[name])) == list(map(hash_pair, expected))


def test_encodings_of_grids_at_every_shift() -> None:
    for case in pipeline_part("encode"):
        shift = case["pad_r"], case["pad_c"]
        for name in ("input", "output"):
            board = read_board(case[f"{name}_seq"])
            assert np.array_equal(encode(grid(case[name]), len(board), shift), board), (
                case["task"],
                case["pair"],
            )
        decoded = decode(read_board(case["input_seq"]))
        same = decoded is not None and np.array_equal(decoded, grid(case["input"]))
        assert same == case["crop_of_input_seq_equals_input"]


def test_grids_are_extracted_from_answers_of_every_kind() -> None:
    for case in pipeline_part("crop"):
        decoded = decode(read_board(case["seq"]))
        assert ([] if decoded is None else decoded.tolist()) == case["grid"], case["kind"]


def test_batches_are_sampled_by_the_published_rule() -> None:
    """As published, one generator orders tasks and chooses puzzles, and numpy's global one orders pairs."""
    golden = pipeline_part("sample_batch")
    split = pipeline_part("tiny_build")["splits"]["train"]
    first_puzzles = np.array(split["group_indices"])
    first_pairs = np.array(split["puzzle_indices"])
    sizes = np.diff(first_pairs)[first_puzzles[:-1]]
    rng = np.random.Generator(np.random.Philox(seed=golden["seed"] + 1))
    order = np.concatenate([rng.permutation(len(sizes)) for _ in range(golden["epochs_per_iter"])])
    np.random.seed(golden["seed"])
    streams = SimpleNamespace(integers=rng.integers, choice=np.random.choice)
    visits = visit_tasks(order, first_puzzles, sizes, streams)
    size = golden["global_batch_size"]
    assert len(golden["batches"]) == golden["n_yielded"]
    for expected in golden["batches"]:
        puzzles, pairs = fill_batch(visits, size)
        assert puzzles.tolist() == expected["puzzle_indices"]
        assert (first_pairs[puzzles] + pairs).tolist() == expected["example_indices"]
    assert len(fill_batch(visits, size)[0]) < size, "an incomplete last batch is dropped"
