"""Sudoku, Maze and N-Queens as sources: a name or a folder of CSV files comes in, one task goes out.

Its demonstrations are the puzzles to train on, its tests those to solve. Sources:

    sudoku-4x4  sudoku-6x6  sudoku-9x9  maze-5x5 ... maze-30x30    generated; /TRAIN+TEST and @SEED may follow
    queens-5x5 ... queens-10x10                                    the same; every solution of a puzzle to train on is
                                                                   a demonstration, and tests have several solutions
    FOLDER                                                         with train.csv and test.csv, as published
                                                                   (Sudoku-Extreme, Maze-Hard); #TRAIN+TEST and @SEED
                                                                   may follow
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
from augment.logic_puzzles import maze, sudoku
from augment.logic_puzzles import nqueens as queens
from augment.logic_puzzles.symmetry import turn_cells
from augment.rng import task_rng
from augment.sources.fast_json import SourceError
from augment.task import Pair, Task

DEFAULT_COUNTS = 1000, 1000
PUBLISHED_SUDOKUS = 1000
"""Of a Sudoku's train.csv so many are trained on, as published, unless the source says otherwise."""

GIVE_UP = 200
"""Puzzles drawn one after the other that are all known already until there seem to be no more."""

SIDES = {"sudoku": sudoku.BOXES, "maze": maze.SIDES, "queens": queens.SIDES}
BOARD_NAMES = tuple(f"{name}-{n}x{n}" for name, sides in SIDES.items() for n in sides)
NAMES = (
    "sudoku-4x4, sudoku-6x6, sudoku-9x9, maze-5x5 to maze-30x30, queens-5x5 to queens-10x10 (/TRAIN+TEST "
    "and @SEED may follow, as in sudoku-6x6/1000+500@1)"
)
_NAME = re.compile(r"((sudoku|maze|queens)-([0-9]+)x[0-9]+)(?:/([0-9]+)\+([0-9]+))?(?:@([0-9]+))?")
_FOLDER = re.compile(r"(.*?)(?:#([0-9]+)\+([0-9]+))?(?:@([0-9]+))?", re.DOTALL)

_SYMBOLS = {"sudoku": b".123456789", "maze": b" #SGo"}
"""What stands for colours 0, 1 ... in CSV files; a blank of a Sudoku may be 0 too."""


@dataclass(frozen=True)
class Kind:
    """What there is to know of one kind of puzzle: draw one, tell it from its like, check answers.

    complete: all answers of a puzzle, where it may have several
    """

    draw: Callable[[np.random.Generator], tuple[Grid, Grid]]
    identify: Callable[[Grid], bytes]
    are_answers: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.bool_]]
    complete: Callable[[Grid], NDArray[np.uint8]] | None = None


def is_logic_puzzle_name(source: str) -> bool:
    """Whether the source is the name of generated puzzles."""
    match = _NAME.fullmatch(source)
    return match is not None and match[1] in BOARD_NAMES


def is_logic_puzzle_folder(source: str) -> bool:
    """Whether the source is a folder of CSV files, perhaps with how many of them to take."""
    return _find_folder(source) is not None


def load_logic_puzzles(source: str) -> Task:
    """The task of a source that `is_logic_puzzle_name` or `is_logic_puzzle_folder`; SourceError for what it cannot
    give."""
    if found := _find_folder(source):
        return _read_folder(*found)
    match = _NAME.fullmatch(source)
    assert match is not None
    return _generate(source, match[1], _parse_counts(source, match[4], match[5]) or DEFAULT_COUNTS, int(match[6] or 0))


def describe_logic_puzzles(task: Task) -> dict[str, float]:
    """How hard the test puzzles of such a task are (the training ones where there is no test).

    Sudoku: "clues, mean" and "backtracks, mean" (median, least, most; `sudoku.difficulty`). Maze: "steps, mean"
    (median, least, most) of the shortest paths. N-Queens: "solutions" likewise.
    """
    pairs = task.tests or task.demonstrations
    puzzles = [pair.input for pair in pairs]
    if is_queens(task):
        return _spread("solutions", [len(queens.complete(puzzle)) for puzzle in puzzles])
    if _solves_sudoku(task.demonstrations[0]):
        clues = float(np.mean([(puzzle > 0).sum() for puzzle in puzzles]))
        return {"clues, mean": clues} | _spread("backtracks", [sudoku.difficulty(puzzle) for puzzle in puzzles])
    return _spread("steps", [maze.count_steps(puzzle) for puzzle in puzzles])


def is_queens(task: Task) -> bool:
    """Whether the task is one of N-Queens."""
    return task.id.startswith("queens-") and task.id in BOARD_NAMES


def _solves_sudoku(pair: Pair) -> bool:
    assert pair.output is not None
    return len(pair.input) in sudoku.BOXES and sudoku.is_solution(pair.input, pair.output)


def _spread(name: str, values: list[int]) -> dict[str, float]:
    figures = {"mean": np.mean(values), "median": np.median(values), "least": np.min(values), "most": np.max(values)}
    return {f"{name}, {which}": float(value) for which, value in figures.items()}


def _parse_counts(source: str, train: str | None, test: str | None) -> tuple[int, int] | None:
    """How many to train on and to test with, where the source says so."""
    if train is None or test is None:
        return None
    if not int(train):
        raise SourceError(f"{source}: 0 puzzles to train on; write how many to train on and to test, as in 1000+500")
    return int(train), int(test)


def _kind(name: str, side: int) -> Kind:
    """Puzzles are alike where a symmetry of training turns one into the other; at Sudoku 9x9 where they are equal.

    There the canonical form of 3.4 million symmetries would take long, and chance hardly draws two that are alike. At
    N-Queens too, as published: the few solutions there are turn up in training anyway.
    """
    if name == "maze":
        turns = turn_cells(side)
        return Kind(partial(maze.draw_maze, side), partial(maze.canonical_form, turns=turns), maze.are_answers)
    if name == "queens":
        return Kind(partial(queens.draw_puzzle, side), np.ndarray.tobytes, queens.are_answers, queens.complete)
    if side == 9:
        return Kind(partial(sudoku.draw_puzzle, side), np.ndarray.tobytes, sudoku.are_solutions)
    identify = partial(sudoku.canonical_form, symmetries=sudoku.cell_symmetries(side))
    return Kind(partial(sudoku.draw_puzzle, side), identify, sudoku.are_solutions)


def _generate(source: str, plain: str, counts: tuple[int, int], seed: int) -> Task:
    """A seeded draw of puzzles no two of which are alike (`_kind`).

    Whether a puzzle is one to train on or to test with is decided by a hash of what it is, for all seeds and counts:
    no test puzzle of one source is a training puzzle of another. Where puzzles may have several answers, all are
    demonstrated, and a test has more than one.
    """
    name, side = plain.split("-")
    kind = _kind(name, int(side.split("x")[0]))
    rng = task_rng(seed, plain, "boards")
    parts: tuple[list[Pair], list[Pair]] = [], []
    seen: set[bytes] = set()
    vain = 0
    drawn = [0, 0]
    while any(number < count for number, count in zip(drawn, counts, strict=True)):
        puzzle, answer = kind.draw(rng)
        identity = kind.identify(puzzle)
        vain = vain + 1 if identity in seen else 0
        if vain == GIVE_UP:
            raise SourceError(
                f"{source}: of puzzles that are not alike only {drawn[0]:,} to train on and {drawn[1]:,} to "
                "test were found; ask for fewer"
            )
        part = blake2b(identity).digest()[0] % 2
        answers = [answer] if kind.complete is None else kind.complete(puzzle)
        if not vain and drawn[part] < counts[part] and not (part and kind.complete and len(answers) == 1):
            drawn[part] += 1
            parts[part].extend(Pair(puzzle, each) for each in ([answer] if part else answers))
        seen.add(identity)
    return Task(plain, *map(tuple, parts))


def _find_folder(source: str) -> tuple[Path, tuple[int, int] | None, int] | None:
    """A folder of CSV files with the counts and the seed that follow it, if the source is one."""
    match = _FOLDER.fullmatch(source)
    assert match is not None
    if _holds_csv(Path(source)):
        return Path(source), None, 0
    if match[1] and _holds_csv(Path(match[1])):
        return Path(match[1]), _parse_counts(source, match[2], match[3]), int(match[4] or 0)
    return None


def _holds_csv(folder: Path) -> bool:
    return any((folder / f"{part}.csv").is_file() for part in ("train", "test"))


def _read_folder(folder: Path, counts: tuple[int, int] | None, seed: int) -> Task:
    parts = []
    for number, part in enumerate(("train", "test")):
        rng = task_rng(seed, "boards", part)
        parts.append(_read_csv(folder / f"{part}.csv", counts[number] if counts else None, rng))
    if not parts[0]:
        raise SourceError(f"{folder / 'train.csv'}: holds no puzzle; there must be one to train on")
    return Task(folder.resolve().name, *parts)


def _read_csv(file: Path, count: int | None, rng: np.random.Generator) -> tuple[Pair, ...]:
    """So many puzzles of a file, drawn by the generator but in the file's order; None: as many as published."""
    table = _read_table(file)
    if not len(table):
        return ()
    name = "sudoku" if set(table["question"][0].as_py()) <= set("0.123456789") else "maze"
    if count is None:
        count = min(len(table), PUBLISHED_SUDOKUS) if (name, file.stem) == ("sudoku", "train") else len(table)
    if count > len(table):
        raise SourceError(f"{file}: holds {len(table):,} puzzles, {count:,} were asked for; ask for fewer")
    rows = np.sort(rng.permutation(len(table))[:count]) if count < len(table) else np.arange(count)
    side = _find_side(len(table["question"][0].as_py()), name, file)
    questions, answers = (_parse_column(table[column], rows, side, name, file) for column in ("question", "answer"))
    wrong = np.flatnonzero(~_kind(name, side).are_answers(questions, answers))
    if len(wrong):
        raise SourceError(f"{file}: line {rows[wrong[0]] + 2}: the answer does not solve the question; remove the line")
    return tuple(map(Pair, questions, answers))


def _read_table(file: Path) -> pa.Table:
    columns = {"question": pa.string(), "answer": pa.string()}
    try:
        options = pa_csv.ConvertOptions(column_types=columns, include_columns=list(columns))
        return pa_csv.read_csv(file, convert_options=options)
    except FileNotFoundError:
        raise SourceError(f"{file}: no such file; a folder of puzzles holds train.csv and test.csv") from None
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise SourceError(f"{file}: no CSV file with the columns question and answer ({error})") from None


def _find_side(cells: int, name: str, file: Path) -> int:
    """The side of a file's boards, by the number of cells of the first."""
    side = round(cells**0.5)
    if side**2 != cells or side not in (sudoku.BOXES if name == "sudoku" else range(2, MAX_SIDE + 1)):
        allowed = "81 (or 16, or 36)" if name == "sudoku" else f"as many as a square of side up to {MAX_SIDE}"
        raise SourceError(f"{file}: line 2: a question of {cells} cells; a {name.capitalize()} has {allowed}")
    return side


def _parse_column(
    column: pa.ChunkedArray, rows: NDArray[np.int64], side: int, name: str, file: Path
) -> NDArray[np.uint8]:
    """The grids (rows, side, side) of some rows of a column of text."""
    texts = column.take(pa.array(rows)).to_pylist()
    lengths = np.array([len(text) for text in texts])
    if (lengths != side**2).any():
        row = int((lengths != side**2).argmax())
        raise SourceError(
            f"{file}: line {rows[row] + 2}: {lengths[row]} cells, where the first question has {side**2}; mend the line"
        )
    symbols = _SYMBOLS[name]
    colours = np.full(256, 255, np.uint8)
    colours[np.frombuffer(symbols, np.uint8)] = np.arange(len(symbols))
    if name == "sudoku":
        colours[ord("0")] = 0
    written = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8)
    grids = colours[written].reshape(-1, side, side)
    if (grids == 255).any():
        row = int((grids == 255).any((1, 2)).argmax())
        raise SourceError(f"{file}: line {rows[row] + 2}: a cell is none of {symbols.decode()!r}; mend the line")
    return grids
