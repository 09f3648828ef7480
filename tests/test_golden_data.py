"""Grids, transforms, names, hashes and the tiny build against the published TRM's own results."""

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from augment import (
    DIHEDRALS,
    IDENTITY,
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

FOLDER = Path(os.environ.get("ARC_TRM_GOLDEN", Path(__file__).parent / "golden"))
GOLDEN = json.loads((FOLDER / "pipeline_golden.json").read_text())
BLACK = 2  # token of colour 0; below it stand pad and end mark


def part(name: str) -> dict:
    if name not in GOLDEN:
        pytest.skip(f"the golden set holds no {name}")
    return GOLDEN[name]


def grid(value: list[list[int]]) -> Grid:
    return parse_grid(value, "golden")


def draw_published() -> Augmentation:
    """The published draw from numpy's global stream."""
    dihedral = np.random.randint(0, DIHEDRALS)
    return Augmentation(int(dihedral), (0, *np.random.permutation(np.arange(1, 10)).tolist()))


def puzzle_hash(pairs: list[Pair]) -> str:
    """The published hash: of the sorted pairs, each written as two grid hashes."""
    lines = sorted("|".join(map(grid_hash, pair.grids())) for pair in pairs)
    return sha256("|".join(lines).encode()).hexdigest()


def augment(pairs: list[Pair], augmentation: Augmentation) -> list[Pair]:
    return [Pair(*map(augmentation.apply, pair.grids())) for pair in pairs]


@pytest.mark.parametrize("dihedral", range(DIHEDRALS))
def test_dihedral_transforms_and_inverses(dihedral: int) -> None:
    golden, colours = part("dihedral"), np.arange(10, dtype=np.uint8)
    original = grid(golden["grid"])
    assert apply(original, dihedral, colours).tolist() == golden["transforms"][str(dihedral)]
    assert invert(original, dihedral, colours).tolist() == golden["inverses"][str(dihedral)]


def test_augmentations_have_the_published_names_and_effects() -> None:
    np.random.seed(GOLDEN["seed"])
    for case in part("aug")["cases"]:
        task_id, number = parse_puzzle_key(case["name"])
        augmentation = Augmentation.from_number(number)
        assert (task_id, augmentation) == (case["inverse_name"], draw_published())
        assert case["name"].endswith(augmentation.name)
        assert augmentation.apply(grid(case["input"])).tolist() == case["augmented"]
        assert augmentation.invert(grid(case["augmented"])).tolist() == case["inverse"]


def test_grid_and_puzzle_hashes() -> None:
    for case in part("grid_hash"):
        assert grid_hash(grid(case["grid"])) == case["sha256"]
    golden = part("puzzle_hash")
    assert puzzle_hash([Pair(*map(grid, pair)) for pair in golden["examples"]]) == golden["sha256"]


def crop(sequence: str, side: int) -> Grid:
    """The grid of an encoded board, wherever it was shifted to."""
    tokens = np.array([int(digit, 16) for digit in sequence]).reshape(side, side)
    rows, columns = np.nonzero(tokens >= BLACK)
    return (tokens[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] - BLACK).astype(np.uint8)


def read_puzzles(build: dict) -> dict[str, list[Pair]]:
    """Every puzzle's pairs by published name: demonstrations, then tests."""
    puzzles: dict[str, list[Pair]] = {name: [] for name in build["identifiers"][1:]}
    for split in build["splits"].values():
        side, bounds = int(split["metadata"]["seq_len"] ** 0.5), split["puzzle_indices"]
        for identifier, start, end in zip(split["puzzle_identifiers"], bounds, bounds[1:], strict=False):
            boards = zip(split["inputs_seq"][start:end], split["labels_seq"][start:end], strict=True)
            pairs = [Pair(crop(before, side), crop(after, side)) for before, after in boards]
            puzzles[build["identifiers"][identifier]] += pairs
    return puzzles


def replay(build: dict, puzzles: dict[str, list[Pair]]) -> Iterator[str]:
    """Names as the published build draws them: shuffle a file's tasks, then up to 5 draws for each puzzle wanted."""
    wanted = build["config"]["num_aug"]
    np.random.seed(build["config"]["seed"])
    for subset in build["config"]["subsets"]:
        task_ids = list(build[subset])
        np.random.shuffle(task_ids)
        for task_id in task_ids:
            seen = {puzzle_hash(puzzles[task_id])}
            yield task_id
            for _ in range(5 * wanted):
                augmentation = draw_published()
                digest = puzzle_hash(augment(puzzles[task_id], augmentation))
                if len(seen) <= wanted and digest not in seen:
                    seen.add(digest)
                    yield f"{task_id}|||{augmentation.name}"
                if len(seen) > wanted:
                    break


def test_the_tiny_build_has_our_puzzles_under_the_published_names() -> None:
    build = part("tiny_build")
    puzzles = read_puzzles(build)
    for name, pairs in puzzles.items():
        task_id, number = parse_puzzle_key(name)
        expected = augment(puzzles[task_id], Augmentation.from_number(number) if number else IDENTITY)
        assert [[g.tolist() for g in p.grids()] for p in pairs] == [
            [g.tolist() for g in p.grids()] for p in expected
        ]
    for task_id in build["training"] + build["evaluation"]:
        names = [name for name in puzzles if parse_puzzle_key(name)[0] == task_id]
        assert len(names) == min(build["config"]["num_aug"] + 1, count_distinct(puzzles[task_id]))
    assert [build["identifiers"][0], *replay(build, puzzles)] == build["identifiers"]
