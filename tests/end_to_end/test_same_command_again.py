"""A command whose output is whole and the same says so and ends with 0; another output is never overwritten.

What killed processes left beside an output is gone after the same command.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from augment import open_puzzle_set
from augment.leftovers import BACKUP, UNFINISHED
from augment.process_identity import ProcessIdentity
from pipeline.checkpoints.checkpoint import save_checkpoint
from pipeline.checkpoints.convert_trm import to_published
from solver.model.model import RecursiveModel
from tests.helpers.commands import refuse, run
from tests.helpers.untrained import MODEL, make_checkpoint

SOURCE = ("arc-agi-1/training", "--max-side", "3", "--limit", "2")
BUILD = ("build", "--score", *SOURCE, "--augmentations", "3", "--board-side", str(MODEL.board_side))


@dataclass(frozen=True)
class Case:
    """A command without its output, what changes the output, and the name of the output."""

    words: tuple[str | Path, ...]
    other: tuple[str | Path, ...]
    option: str = "--out"
    name: str = "out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    assert run(*BUILD, "--out", folder / "set") == 0
    checkpoint = make_checkpoint(open_puzzle_set(folder / "set"))
    save_checkpoint(folder / "checkpoint", checkpoint)
    words = ("predict", "--puzzles", folder / "set", "--checkpoint", folder / "checkpoint")
    assert run(*words, "--out", folder / "predictions") == 0
    save_file(to_published(RecursiveModel(replace(MODEL, canvas="full")).state_dict()), folder / "step.safetensors")
    return folder


def case_of(name: str, folder: Path) -> Case:
    predict = ("predict", "--puzzles", folder / "set", "--checkpoint", folder / "checkpoint")
    vote = ("vote", folder / "predictions", SOURCE[0])
    convert = ("convert", folder / "step.safetensors", "--set", "model.heads=2", "--set", "model.id_slots=1")
    return {
        "build": Case(BUILD, ("--seed", "7")),
        "build of other tasks": Case(BUILD, ("--limit", "1")),
        "export": Case((*BUILD, "--format", "published"), ("--seed", "7")),
        "predict": Case(predict, ("--noise", "0.5")),
        "rescore": Case((*predict, "--rescore", "2"), ("--noise", "0.5")),
        "vote": Case((*vote, *SOURCE[1:]), ("--limit", "1"), name="out.json"),
        "tasks": Case(("tasks", *SOURCE), ("--augmentations", "1"), option="--html", name="out.html"),
        "backbone": Case(("backbone", folder / "checkpoint"), ("--note", "score=1")),
        "convert": Case(convert, ("--set", "model.max_steps=5")),
    }[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


COMMANDS = ("build", "build of other tasks", "export", "predict", "rescore", "vote", "tasks", "backbone", "convert")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_again(command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = case_of(command, folder)
    out = tmp_path / case.name
    line = (*case.words, case.option, out)
    own = ProcessIdentity.own()
    dead = ProcessIdentity(own.place, own.pid, own.start + 100_000, own.token)
    (tmp_path / f".{case.name}.{dead}{UNFINISHED}").touch()
    assert run(*line) == 0
    first = contents(tmp_path)
    assert {name.partition("/")[0] for name in first} <= {case.name, "out.about.json"}
    capsys.readouterr()
    (tmp_path / f".{case.name}.{dead}{UNFINISHED}").touch()
    assert run(*line) == 0
    assert "already" in capsys.readouterr().out
    assert contents(tmp_path) == first
    assert "exists already" in refuse(capsys, *line, *case.other)
    assert contents(tmp_path) == first
    # A process that was killed between the two renames of a replacement.
    out.rename(tmp_path / f".{case.name}.{dead}{BACKUP}")
    assert run(*line) == 0
    assert contents(tmp_path) == first


def test_a_vote_that_was_killed_between_its_two_files_is_completed(folder: Path, tmp_path: Path) -> None:
    line = ("vote", folder / "predictions", *SOURCE, "--out", tmp_path / "out.json")
    assert run(*line) == 0
    whole = contents(tmp_path)
    for name in whole:
        (tmp_path / name).unlink()
        assert run(*line) == 0
        assert contents(tmp_path) == whole


def test_a_damaged_output_is_not_taken_for_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "set", tmp_path / "set")
    with (tmp_path / "set" / "tasks.parquet").open("ab") as file:
        file.write(b"x")
    assert "exists already" in refuse(capsys, *BUILD, "--out", tmp_path / "set")
