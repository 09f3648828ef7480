"""The run folder: created once, resumed with the same config, and never left in a state that cannot be opened."""

import gc
import json
import os
from pathlib import Path

import pytest

from augment.process_identity import ProcessIdentity, find_place, find_start
from pipeline.config.run_config import RunConfig, override
from pipeline.recipes.small import smoke
from pipeline.runtime.folder_lock import FolderInUseError
from pipeline.runtime.run_folder import MAY_CHANGE, RunFolder

CHANGES = {
    "budget": 60.0,
    "remark": "seen",
    "ensemble": 2,
    "train.log_every": 7,
    "train.checkpoint_every": 9,
    "train.trackers": ["tensorboard"],
    "train.micro_batch": 2,
    "puzzles.workers": 2,
    "predict.augmentations": 2,
    "predict.batch_size": 3,
    "predict.steps": 4,
    "predict.record": "all",
    "predict.noise": 0.2,
    "predict.temperature": 0.5,
    "predict.second_pass": False,
    "predict.rescore": 5,
    "predict.ranker": "confidence",
}


def saved(path: Path) -> dict:
    return json.loads((path / "config.json").read_text())


def change(**changes: object) -> RunConfig:
    return override(smoke(), {name.replace("__", "."): value for name, value in changes.items()})


def test_the_same_config_opens_a_run_again_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", smoke())
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}
    RunFolder(tmp_path / "run", smoke())
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()} == before


def test_a_run_is_locked_while_it_is_open_and_not_afterwards(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", smoke())
    assert (tmp_path / "run" / ".lock").exists()
    run.log("at work")
    del run
    gc.collect()
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_run_that_another_process_works_in_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path, smoke())
    gc.collect()
    parent = ProcessIdentity(find_place(), os.getppid(), find_start(os.getppid()), "0123abcd")
    (tmp_path / ".lock").mkdir()
    (tmp_path / ".lock" / str(parent)).touch()
    log = (tmp_path / "log.txt").exists()
    with pytest.raises(FolderInUseError, match=f"process {os.getppid()}"):
        RunFolder(tmp_path, change(train__log_every=7))
    assert saved(tmp_path) == smoke().model_dump(mode="json")
    assert (tmp_path / "log.txt").exists() == log
    RunFolder(tmp_path, smoke(), first=False)
    RunFolder(tmp_path, smoke(), part=True)


def test_what_a_killed_run_left_anywhere_is_removed(tmp_path: Path) -> None:
    RunFolder(tmp_path, smoke())
    gc.collect()
    names = (
        "checkpoints/.step_0000010.unfinished",
        "ensemble/1/.config.json.0123abcd.unfinished",
        f".puzzles.{ProcessIdentity('ffffffff', 1, 2, '0123abcd')}.old",
    )
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    RunFolder(tmp_path, smoke())
    gc.collect()
    assert [path.name for path in tmp_path.rglob(".*")] == []
    assert (tmp_path / "puzzles").exists(), "an old version is put back"


def test_every_setting_that_may_change_is_tested_here() -> None:
    assert CHANGES.keys() | {"predict.trajectories"} == MAY_CHANGE, "trajectories also need noise"


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_an_allowed_change_is_applied_and_logged(tmp_path: Path, name: str, value: object) -> None:
    RunFolder(tmp_path, smoke())
    config = override(smoke(), {name: value})
    RunFolder(tmp_path, config)
    assert saved(tmp_path) == config.model_dump(mode="json") != smoke().model_dump(mode="json")
    assert f"{name}: " in (tmp_path / "log.txt").read_text()
    assert f" -> {value!r}" in (tmp_path / "log.txt").read_text()


def test_any_other_change_is_refused_with_all_differences(tmp_path: Path) -> None:
    RunFolder(tmp_path, smoke())
    with pytest.raises(ValueError, match="another config") as caught:
        RunFolder(tmp_path, change(train__lr=0.5, train__log_every=7))
    assert "train.lr: 0.001 -> 0.5" in str(caught.value)
    assert "train.log_every: 5 -> 7" in str(caught.value)
    assert saved(tmp_path) == smoke().model_dump(mode="json"), "a refusal changes nothing"


@pytest.mark.parametrize("names", [(), ("versions.json",), (".versions.json.0a1b.unfinished",)])
def test_a_run_killed_during_its_creation_is_created_again(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("{")
    RunFolder(tmp_path, smoke())
    assert saved(tmp_path)["recipe"] == "smoke"
    assert json.loads((tmp_path / "versions.json").read_text())["python"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="is not a run folder"):
        RunFolder(tmp_path, smoke())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    RunFolder(tmp_path, smoke())
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="damaged"):
        RunFolder(tmp_path, smoke())


def test_other_processes_are_silent_and_touch_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path / "run", smoke(), first=False)
    run.log("hello")
    run.show("a table")
    run.measure(step=1)
    run.forget_after(0)
    assert not any(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


def test_other_processes_do_not_remove_metrics_of_the_first(tmp_path: Path) -> None:
    RunFolder(tmp_path, smoke()).measure(step=9)
    RunFolder(tmp_path, smoke(), first=False).forget_after(5)
    assert "9" in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("cut", ["", '{"step": 2', '{"step": 25, "lo', "\x00\x00", "17\n"])
def test_metrics_after_the_step_and_a_cut_line_are_removed(tmp_path: Path, cut: str) -> None:
    run = RunFolder(tmp_path, smoke())
    metrics = tmp_path / "metrics.jsonl"
    for step in (5, 10, 15, 20):
        run.measure(step=step, loss=0.5)
    with metrics.open("a") as file:
        file.write(cut)
    run.forget_after(10)
    run.measure(step=15, loss=0.25)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert lines == [{"step": 5, "loss": 0.5}, {"step": 10, "loss": 0.5}, {"step": 15, "loss": 0.25}]


def test_a_run_without_metrics_has_nothing_to_remove(tmp_path: Path) -> None:
    RunFolder(tmp_path, smoke()).forget_after(0)
    assert not (tmp_path / "metrics.jsonl").exists()
