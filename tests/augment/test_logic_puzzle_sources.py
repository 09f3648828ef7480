"""Sudoku and Maze as sources: names, CSV files, and error messages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from augment import SourceError, Task, load_tasks
from augment.logic_puzzles import maze, sudoku
from augment.logic_puzzles.maze import GOAL, PATH, START, WALL
from augment.logic_puzzles.recognition import describe_logic_puzzles
from augment.logic_puzzles.sudoku import canonical_form, cell_symmetries


def load(source: str | Path) -> Task:
    (task,) = load_tasks(source)
    return task


def test_a_name_sets_counts_and_seed() -> None:
    task = load("sudoku-6x6/30+20@1")
    assert (task.id, len(task.demonstrations), len(task.tests)) == ("sudoku-6x6", 30, 20)
    for pair in (*task.demonstrations, *task.tests):
        assert pair.output is not None
        assert sudoku.is_solution(pair.input, pair.output)
    first = [
        load(name).demonstrations[0].input.tobytes()
        for name in ("sudoku-6x6/30+20@1", "sudoku-6x6/9+1", "sudoku-6x6/9+1@0")
    ]
    assert first[0] != first[1] == first[2]


def test_no_test_puzzle_is_equivalent_to_a_training_puzzle() -> None:
    symmetries = cell_symmetries(4)
    task = load("sudoku-4x4/300+200")
    forms = [canonical_form(pair.input, symmetries) for pair in (*task.demonstrations, *task.tests)]
    assert len(set(forms)) == 500
    maze = load("maze-6x6/40+30")
    grids = [pair.input for pair in (*maze.demonstrations, *maze.tests)]
    reflections = [*grids, *(grid.T for grid in grids)]
    variants = {np.rot90(grid, turns).tobytes() for grid in reflections for turns in range(4)}
    assert len(variants) > 7 * len(grids), "few mazes are symmetric under a rotation or reflection"
    forms = [min(np.rot90(g, t).tobytes() for g in (grid, grid.T) for t in range(4)) for grid in grids]
    assert len(set(forms)) == 70


def test_the_same_name_gives_the_same_puzzles_in_every_process() -> None:
    code = (
        "from augment import load_tasks; from hashlib import sha256; (task,) = load_tasks('sudoku-4x4/5+5'); "
        "print(sha256(b''.join(pair.input.tobytes() for pair in task.demonstrations + task.tests)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sudoku-5x5", "sudoku-4x4, sudoku-6x6, sudoku-9x9"),
        ("sudoku-4x6", "no source sudoku-4x6; did you mean sudoku-6x6 or sudoku-4x4"),
        ("Sudoko-9x9/1000+1000", "did you mean sudoku-9x9"),
        ("maze-31x31", "maze-5x5 to maze-30x30"),
        ("sudoku-9x9/1000", "as in sudoku-6x6/1000+500@1"),
        ("sudoku-9x9/0+5", "0 puzzles to train on"),
        ("maze-30x30/1000000000000+1", "1,000,000,000,001 puzzles need at least 279,396.8 GiB of memory"),
        ("maze-30x30/1+1000000000000", "1,000,000,000,001 puzzles need at least 279,396.8 GiB of memory"),
        ("sudoku-4x4/100000+1", "training puzzles and 1 different test puzzles were found; request fewer"),
    ],
)
def test_invalid_names_are_refused(source: str, message: str) -> None:
    with pytest.raises(SourceError, match=message.replace("+", r"\+")):
        load_tasks(source)


def test_training_and_test_puzzles_stay_apart_for_all_counts_and_seeds() -> None:
    symmetries = cell_symmetries(4)
    train = set()
    test = set()
    for name in ("sudoku-4x4/500+20", "sudoku-4x4/20+500@1", "sudoku-4x4/200+300@2"):
        task = load(name)
        train |= {canonical_form(pair.input, symmetries) for pair in task.demonstrations}
        test |= {canonical_form(pair.input, symmetries) for pair in task.tests}
    assert min(len(train), len(test)) > 500
    assert not train & test
    few = load("sudoku-6x6/3+8").tests
    many = load("sudoku-6x6/20+8").tests
    assert all((a.input == b.input).all() for a, b in zip(few, many, strict=True)), "the tests are the same"


def test_a_folder_with_a_name_like_a_puzzle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "sudoku-extreme", [(QUESTION, SOLVED)] * 2)
    assert load("sudoku-extreme").id == "sudoku-extreme"
    assert load("sudoku-extreme#1+1@2").id == "sudoku-extreme"
    write_csv(tmp_path / "maze#3", [(QUESTION, SOLVED)])
    assert load("maze#3").id == "maze#3"
    (tmp_path / "maze-30x30-hard-1k").mkdir()
    (tmp_path / "maze-30x30-hard-1k" / "train.csv").touch()
    with pytest.raises(SourceError, match=r"train\.csv is not a CSV file with the columns"):
        load("maze-30x30-hard-1k")
    (tmp_path / "sudoku-extreme" / "test.csv").unlink()
    with pytest.raises(
        SourceError, match=r"test\.csv does not exist; a folder of puzzles must contain train\.csv and test"
    ):
        load("sudoku-extreme")


def test_difficulty_is_measured() -> None:
    facts = describe_logic_puzzles(load("sudoku-9x9/1+10"))
    assert facts["backtracks, most"] >= facts["backtracks, median"] >= 0
    assert 17 <= facts["clues, mean"] <= 30
    assert describe_logic_puzzles(load("maze-10x10/1+10"))["steps, least"] >= 12
    assert describe_logic_puzzles(load("sudoku-4x4/5+0"))["backtracks, most"] == 0, "of the training puzzles"


SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
QUESTION = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


def write_csv(folder: Path, rows: list[tuple[str, str]], name: str = "both") -> Path:
    folder.mkdir(exist_ok=True)
    text = "source,question,answer,rating\n" + "".join(f"x,{question},{answer},7\n" for question, answer in rows)
    for part in ("train", "test") if name == "both" else (name,):
        (folder / f"{part}.csv").write_text(text)
    return folder


def test_sudoku_extreme_is_read(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "sudoku-extreme", [(QUESTION, SOLVED)] * 3 + [(QUESTION.replace(".", "0"), SOLVED)])
    task = load(f"{folder}#2+4@1")
    assert (task.id, len(task.demonstrations), len(task.tests)) == ("sudoku-extreme", 2, 4)
    assert "".join(map(str, task.tests[0].input.ravel())) == QUESTION.replace(".", "0")
    assert (task.tests[0].input == task.tests[3].input).all()
    with pytest.raises(SourceError, match=r"train.csv contains 4 puzzles, but 5 were requested"):
        load(f"{folder}#5+1")
    assert (len(load(folder).demonstrations), len(load(f"{folder}#4+0").tests)) == (4, 0)


def test_the_published_number_of_puzzles_is_taken_from_a_folder(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "many", [(QUESTION, SOLVED)] * 1200)
    task = load(folder)
    assert (len(task.demonstrations), len(task.tests)) == (1000, 1200)
    folder = write_csv(tmp_path / "mazes", [("S  G", "S oG")] * 1500)
    assert len(load(folder).demonstrations) == 1500


def test_smaller_selections_are_subsets_of_larger_ones(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        task = load(f"sudoku-9x9/1+0@{number}")
        pair = task.demonstrations[0]
        assert pair.output is not None
        rows.append(tuple("".join(map(str, grid.ravel())) for grid in (pair.input, pair.output)))
    folder = write_csv(tmp_path / "some", rows)
    chosen = [{pair.input.tobytes() for pair in load(f"{folder}#{count}+5@7").demonstrations} for count in (5, 20)]
    assert len(chosen[0]) == 5
    assert chosen[0] < chosen[1]
    assert chosen[0] != {pair.input.tobytes() for pair in load(f"{folder}#5+5@8").demonstrations}


def test_maze_hard_is_read(tmp_path: Path) -> None:
    question = "S #     G"
    folder = write_csv(tmp_path / "maze", [(question, "So#" + " oo" + "  G"), (question, "S #" + "ooo" + "  G")])
    task = load(f"{folder}#2+2")
    pair = task.tests[0]
    assert pair.output is not None
    assert (pair.input[0, 0], pair.input[2, 2], pair.input[0, 2]) == (START, GOAL, WALL)
    assert (pair.output == PATH).sum() == 3
    assert maze.is_solution(pair.input, pair.output)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(QUESTION, SOLVED), (QUESTION, SOLVED[::-1])], "line 3: the answer does not solve the question"),
        ([(QUESTION, SOLVED), (QUESTION[:80], SOLVED)], "line 3 has 80 cells, but the first question has 81"),
        ([(QUESTION, SOLVED[:80])], "line 2 has 80 cells, but the first question has 81"),
        ([(QUESTION[:80], SOLVED)], "line 2: the question has 80 cells, but a Sudoku has 81"),
        ([("S" + " " * 11, "x")], "line 2: the question has 12 cells, but a Maze has a square number of cells"),
        ([("S" + " " * 80, "S" + "o" * 80)], "line 2: the answer does not solve the question"),
        ([(QUESTION.replace("7", "4", 1), SOLVED)], "line 2: the answer does not solve the question"),
        ([(QUESTION[:80] + "x", SOLVED)], "line 2: a cell is not in"),
        ([(QUESTION, SOLVED), ("é" + QUESTION[1:], SOLVED)], "line 3: a cell is not in"),
        ([("SS G", "SSoG")], "line 2: the answer does not solve the question"),
        ([("S #  x  G", "S #  x  G")], "line 2: a cell is not in"),
    ],
)
def test_the_error_names_the_line_of_an_invalid_puzzle(
    rows: list[tuple[str, str]], message: str, tmp_path: Path
) -> None:
    folder = write_csv(tmp_path / "puzzles", rows)
    with pytest.raises(SourceError, match=f"train.csv: {message}"):
        load(f"{folder}#{len(rows)}+1")


def test_the_error_names_a_file_without_the_columns(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "puzzles", [(QUESTION, SOLVED)])
    (folder / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"train\.csv is not a CSV file with the columns question and answer"):
        load(f"{folder}#1+1")
