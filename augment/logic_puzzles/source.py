"""Generate Sudoku, Maze and N-Queens puzzles, or read them from CSV files, as one task per source.

The task's demonstrations are the training puzzles and its tests are the test puzzles. Source names:

    sudoku-4x4  sudoku-6x6  sudoku-9x9  maze-5x5 ... maze-30x30    generated; optional suffixes /TRAIN+TEST and @SEED
    queens-5x5 ... queens-10x10                                    the same; every solution of a training puzzle is a
                                                                   demonstration, and tests have several solutions
    FOLDER                                                         with train.csv and test.csv, as published
                                                                   (Sudoku-Extreme, Maze-Hard); optional suffixes
                                                                   #TRAIN+TEST and @SEED
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from augment.grid import MAX_SIDE, Grid
from augment.logic_puzzles import maze, nqueens, sudoku
from augment.logic_puzzles.symmetry import turn_cells
from augment.memory import main_memory
from augment.rng import task_rng
from augment.sources.files import SourceError, require_regular
from augment.task import Pair, Task

DEFAULT_COUNTS = 1000, 1000
PUBLISHED_SUDOKUS = 1000
"""Number of puzzles taken from a Sudoku's train.csv, as published, if the source names no counts."""

MAX_REPEATED_DRAWS = 200
"""Generation stops with an error after this many consecutive draws of puzzles that were drawn before."""

PUZZLE_BYTES = 300
"""Less than a generated puzzle takes in memory: two arrays, a pair, and the bytes by which repeats are found."""

SIDES = {"sudoku": sudoku.BOXES, "maze": maze.SIDES, "queens": nqueens.SIDES}
PUZZLE_NAMES = tuple(f"{name}-{n}x{n}" for name, sides in SIDES.items() for n in sides)
NAMES = (
    "sudoku-4x4, sudoku-6x6, sudoku-9x9, maze-5x5 to maze-30x30, queens-5x5 to queens-10x10 (/TRAIN+TEST "
    "and @SEED may follow, as in sudoku-6x6/1000+500@1)"
)
_NAME = re.compile(r"((sudoku|maze|queens)-([0-9]+)x[0-9]+)(?:/([0-9]+)\+([0-9]+))?(?:@([0-9]+))?")
_FOLDER = re.compile(r"(.*?)(?:#([0-9]+)\+([0-9]+))?(?:@([0-9]+))?", re.DOTALL)

_SYMBOLS = {"sudoku": b".123456789", "maze": b" #SGo"}
"""The characters for colours 0, 1 ... in CSV files; a blank Sudoku cell may also be written as 0."""


@dataclass(frozen=True)
class Kind:
    """The functions of one kind of puzzle, for one board size.

    Attributes:
        draw: draws a puzzle and its solution, both (side, side).
        identify: returns the same bytes for two puzzles exactly if they count as the same puzzle (`_kind`).
        find_class: returns the same bytes for all puzzles of one symmetry class, which are training puzzles or test
            puzzles together; None if that is `identify`.
        are_solutions: checks solutions (n, side, side) of puzzles (n, side, side); returns (n,).
        complete: returns all solutions (n, side, side) of a puzzle; None if every puzzle has only one.
    """

    draw: Callable[[np.random.Generator], tuple[Grid, Grid]]
    identify: Callable[[Grid], bytes]
    are_solutions: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.bool_]]
    complete: Callable[[Grid], NDArray[np.uint8]] | None = None
    find_class: Callable[[Grid], bytes] | None = None


def is_logic_puzzle_name(source: str) -> bool:
    """Return whether the source is the name of generated puzzles."""
    return bool((match := _NAME.fullmatch(source)) and match[1] in PUZZLE_NAMES)


def is_logic_puzzle_folder(source: str) -> bool:
    """Return whether the source is a folder of CSV files, with or without counts and a seed."""
    return _find_folder(source) is not None


def load_logic_puzzles(source: str) -> Task:
    """Load the task of a source that satisfies `is_logic_puzzle_name` or `is_logic_puzzle_folder`.

    Raises:
        SourceError: if the counts are impossible, or a CSV file is missing or invalid.
    """
    if folder_source := _find_folder(source):
        return _read_folder(*folder_source)
    match = _NAME.fullmatch(source)
    assert match is not None
    counts = _parse_counts(source, match[4], match[5]) or DEFAULT_COUNTS
    _check_memory(source, sum(counts))
    return _generate(source, match[1], counts, int(match[6] or 0))


def _check_memory(source: str, puzzles: int) -> None:
    """Raise a SourceError for more puzzles than main memory holds."""
    memory = main_memory()
    if PUZZLE_BYTES * puzzles > memory:
        raise SourceError(
            f"{source}: {puzzles:,} puzzles need at least {PUZZLE_BYTES * puzzles / 2**30:,.1f} GiB of memory, and "
            f"there are {memory / 2**30:,.1f} GiB",
            "request fewer",
        )


def _parse_counts(source: str, train: str | None, test: str | None) -> tuple[int, int] | None:
    """Return the numbers of training and test puzzles that the source names, or None if it names none."""
    if train is None or test is None:
        return None
    if not int(train):
        raise SourceError(
            f"{source}: 0 puzzles to train on", "give numbers of training and test puzzles, as in 1000+500"
        )
    return int(train), int(test)


def _kind(name: str, side: int) -> Kind:
    """Return the functions for puzzles of this name and board side.

    Two puzzles count as the same if a training symmetry maps one to the other. There are two exceptions, where only
    equal puzzles count as the same:

    - Sudoku 9x9: a canonical form over 3.4 million symmetries would take long, and random draws hardly ever give two
      equivalent puzzles.
    - N-Queens, as published: there are few puzzles. Their rotations and reflections are in the same part, however.
    """
    turns = turn_cells(side)
    if name == "maze":
        return Kind(partial(maze.draw_maze, side), partial(maze.canonical_form, turns=turns), maze.are_solutions)
    if name == "queens":
        return Kind(
            partial(nqueens.draw_puzzle, side), np.ndarray.tobytes, nqueens.are_solutions, nqueens.complete,
            partial(maze.canonical_form, turns=turns),
        )  # fmt: skip
    if side == 9:
        return Kind(partial(sudoku.draw_puzzle, side), np.ndarray.tobytes, sudoku.are_solutions)
    identify = partial(sudoku.canonical_form, symmetries=sudoku.cell_symmetries(side))
    return Kind(partial(sudoku.draw_puzzle, side), identify, sudoku.are_solutions)


def _generate(source: str, base_name: str, counts: tuple[int, int], seed: int) -> Task:
    """Generate a task of puzzles that are pairwise different in the sense of `_kind`.

    A hash of the puzzle's symmetry class decides whether it is a training or a test puzzle, for all seeds and counts.
    Therefore no test puzzle of one source is a training puzzle of another. If puzzles may have several solutions, all
    solutions of a training puzzle are demonstrations, and only puzzles with more than one solution become tests.

    Args:
        source: the source as the user wrote it, for messages.
        base_name: the source's name without counts and seed; also the task's ID.
        counts: numbers of training and test puzzles.
        seed: the seed of the random generator.
    """
    name, side = base_name.split("-")
    kind = _kind(name, int(side.split("x")[0]))
    rng = task_rng(seed, base_name, "boards")
    parts: tuple[list[Pair], list[Pair]] = [], []
    identities: set[bytes] = set()
    repeats = 0
    part_counts = [0, 0]
    while any(number < count for number, count in zip(part_counts, counts, strict=True)):
        puzzle, answer = kind.draw(rng)
        identity = kind.identify(puzzle)
        repeats = repeats + 1 if identity in identities else 0
        if repeats == MAX_REPEATED_DRAWS:
            raise SourceError(
                f"{source}: only {part_counts[0]:,} different training puzzles and {part_counts[1]:,} different test "
                "puzzles were found",
                "request fewer",
            )
        part = blake2b(identity if kind.find_class is None else kind.find_class(puzzle)).digest()[0] % 2
        answers = [answer] if kind.complete is None else kind.complete(puzzle)
        if not repeats and part_counts[part] < counts[part] and not (part and kind.complete and len(answers) == 1):
            part_counts[part] += 1
            parts[part].extend(Pair(puzzle, solution) for solution in ([answer] if part else answers))
        identities.add(identity)
    return Task(base_name, *map(tuple, parts))


def _find_folder(source: str) -> tuple[Path, tuple[int, int] | None, int] | None:
    """Split the source into a folder of CSV files, its counts (or None) and its seed; None if it is no such folder."""
    match = _FOLDER.fullmatch(source)
    assert match is not None
    # The whole source comes first, because the name of a folder may itself contain # or @.
    if _has_csv(Path(source)):
        return Path(source), None, 0
    if match[1] and _has_csv(Path(match[1])):
        return Path(match[1]), _parse_counts(source, match[2], match[3]), int(match[4] or 0)
    return None


def _has_csv(folder: Path) -> bool:
    return any((folder / f"{part}.csv").is_file() for part in ("train", "test"))


def _read_folder(folder: Path, counts: tuple[int, int] | None, seed: int) -> Task:
    parts = []
    for number, part in enumerate(("train", "test")):
        rng = task_rng(seed, "boards", part)
        parts.append(_read_csv(folder / f"{part}.csv", counts[number] if counts else None, rng))
    if not parts[0]:
        raise SourceError(f"{folder / 'train.csv'} contains no puzzle", "add at least one training puzzle")
    return Task(folder.resolve().name, *parts)


def _read_csv(file: Path, count: int | None, rng: np.random.Generator) -> tuple[Pair, ...]:
    """Read `count` puzzles of a CSV file and check their solutions.

    Args:
        file: a CSV file with the columns question and answer.
        count: how many puzzles to draw; None for the published number, which is all but for a Sudoku's train.csv.
        rng: draws the puzzles; they stay in the file's order.
    """
    table = _read_table(file)
    if not len(table):
        return ()
    name = "sudoku" if set(table["question"][0].as_py()) <= set("0.123456789") else "maze"
    if count is None:
        count = min(len(table), PUBLISHED_SUDOKUS) if (name, file.stem) == ("sudoku", "train") else len(table)
    if count > len(table):
        raise SourceError(f"{file} contains {len(table):,} puzzles, but {count:,} were requested", "request fewer")
    # A permutation's first elements: with the same seed a smaller count selects a subset of a larger one.
    rows = np.sort(rng.permutation(len(table))[:count]) if count < len(table) else np.arange(count)
    side = _find_side(len(table["question"][0].as_py()), name, file)
    questions, answers = (_parse_column(table[column], rows, side, name, file) for column in ("question", "answer"))
    errors = np.flatnonzero(~_kind(name, side).are_solutions(questions, answers))
    if len(errors):
        # Line 1 is the header and rows count from 0, hence + 2.
        raise SourceError(
            f"{file}: line {rows[errors[0]] + 2}: the answer does not solve the question", "remove the line"
        )
    return tuple(map(Pair, questions, answers))


def _read_table(file: Path) -> pa.Table:
    columns = {"question": pa.string(), "answer": pa.string()}
    try:
        require_regular(file)
        options = pa_csv.ConvertOptions(column_types=columns, include_columns=list(columns))
        return pa_csv.read_csv(file, convert_options=options)
    except FileNotFoundError:
        raise SourceError(f"{file} does not exist", "a folder of puzzles must contain train.csv and test.csv") from None
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        summary = f"{file} is not a CSV file with the columns question and answer ({error})"
        raise SourceError(summary, "correct or replace the file") from None


def _find_side(cells: int, name: str, file: Path) -> int:
    """Return the side of a file's boards, given the number of cells of the first board."""
    side = round(cells**0.5)
    if side**2 != cells or side not in (sudoku.BOXES if name == "sudoku" else range(2, MAX_SIDE + 1)):
        allowed = "81 (or 16, or 36) cells" if name == "sudoku" else f"a square number of cells up to {MAX_SIDE**2}"
        raise SourceError(
            f"{file}: line 2: the question has {cells} cells, but a {name.capitalize()} has {allowed}",
            "correct the line",
        )
    return side


def _parse_column(
    column: pa.ChunkedArray, rows: NDArray[np.int64], side: int, name: str, file: Path
) -> NDArray[np.uint8]:
    """Parse the text in these rows of a column; return the grids (rows, side, side)."""
    texts = column.take(pa.array(rows)).to_pylist()
    lengths = np.array([len(text) for text in texts])
    if (lengths != side**2).any():
        row = int((lengths != side**2).argmax())
        raise SourceError(
            f"{file}: line {rows[row] + 2} has {lengths[row]} cells, but the first question has {side**2}",
            "correct the line",
        )
    symbols = _SYMBOLS[name]
    colours = np.full(256, 255, np.uint8)
    colours[np.frombuffer(symbols, np.uint8)] = np.arange(len(symbols))
    if name == "sudoku":
        colours[ord("0")] = 0
    # "replace" writes "?" for each other character, so that lengths stay and the check below finds it.
    characters = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    grids = colours[characters].reshape(-1, side, side)
    if (grids == 255).any():
        row = int((grids == 255).any((1, 2)).argmax())
        raise SourceError(f"{file}: line {rows[row] + 2}: a cell is not in {symbols.decode()!r}", "correct the line")
    return grids
