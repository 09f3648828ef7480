"""Prediction in several processes, one of which may be lost, gives equal predictions."""

import json
from pathlib import Path

import pytest

from augment import PuzzleSet, write_puzzle_set
from pipeline.checkpoints.checkpoint import save_checkpoint
from submissions import make_submission, read_predictions, vote
from tests.helpers.commands import launch, launch_script, run
from tests.helpers.predictions import ask, same_files, stored_set
from tests.helpers.untrained import make_checkpoint, make_set


@pytest.fixture(scope="module")
def puzzle_set(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    return stored_set(tmp_path_factory.mktemp("sets") / "set")


SETTINGS = ("--rescore", "3", "--steps", "all", "--trajectories", "2", "--noise", "0.1")


@pytest.fixture(scope="module")
def stored(puzzle_set: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[str | Path, ...]:
    """The options that name a stored set and checkpoint."""
    folder = tmp_path_factory.mktemp("stored")
    write_puzzle_set(puzzle_set, folder / "set")
    save_checkpoint(folder / "checkpoint", make_checkpoint(puzzle_set))
    return "--puzzles", folder / "set", "--checkpoint", folder / "checkpoint"


def submission_of(folder: Path) -> str:
    made, tasks = read_predictions(folder), list(make_set(0).tasks)
    return json.dumps(make_submission(vote(made, tasks, "product"), tasks))


def test_any_number_of_processes_gives_the_identical_answers(stored: tuple[str | Path, ...], tmp_path: Path) -> None:
    assert run("predict", *stored, *SETTINGS, "--out", tmp_path / "1") == 0
    for processes in (2, 4):
        folder = tmp_path / str(processes)
        done = launch(processes, "predict", *stored, *SETTINGS, "--out", folder)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count(f"processes: {processes}") == 2, "only the first process speaks"
        same_files(folder, tmp_path / "1")
        assert (folder / "scores.parquet").read_bytes() == (tmp_path / "1" / "scores.parquet").read_bytes()
        assert submission_of(folder) == submission_of(tmp_path / "1")


LOSE_ONE = """
import os, signal, sys
from pipeline.prediction import shards
from pipeline.__main__ import main
write = shards.write_shard
def killed(folder, number, *rest):
    if number >= 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder, number, *rest)
shards.write_shard = killed
main(sys.argv[1:])
"""


def test_a_lost_process_ends_the_others_and_fewer_go_on(
    stored: tuple[str | Path, ...], puzzle_set: PuzzleSet, tmp_path: Path
) -> None:
    (tmp_path / "lose.py").write_text(LOSE_ONE)
    chosen = ("predict", *stored, "--set", "predict.second_pass=false", "--out", tmp_path / "out")
    done = launch_script(2, tmp_path / "lose.py", *chosen)
    assert done.returncode != 0
    assert not (tmp_path / "out").exists()
    assert run(*chosen) == 0
    ask(puzzle_set, tmp_path / "plain")
    same_files(tmp_path / "out", tmp_path / "plain")


READ_LATE = """
import os, sys, time
from pipeline.prediction import predict
from pipeline.__main__ import main
find = predict.find_cut_off
def late(*words):
    time.sleep(3 * (os.environ["RANK"] == "1"))
    find(*words)
    return set()
predict.find_cut_off = late
main(sys.argv[1:])
"""


def test_parts_stay_until_every_process_has_read_them(stored: tuple[str | Path, ...], tmp_path: Path) -> None:
    """Each process reads all parts to find what is asked again; the first one joins and removes them."""
    (tmp_path / "late.py").write_text(READ_LATE)
    done = launch_script(2, tmp_path / "late.py", "predict", *stored, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "out.parts").exists()


def test_every_stage_runs_in_two_processes(tmp_path: Path) -> None:
    """The first one builds, votes and writes; training in float64 is the same up to rounding, so the submission is."""
    chosen = ("solve", "--recipe", "smoke", "--set", "train.steps=4", "--set", "train.precision=fp64")
    assert run(*chosen, "--run-dir", tmp_path / "1") == 0
    done = launch(2, *chosen, "--run-dir", tmp_path / "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("its score means nothing") == 1, "only the first process speaks"
    for name in ("submission.json", "score.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert launch(2, *chosen).returncode != 0, "without a folder that they share"
