"""Backbones: what is copied from a checkpoint, training from one, and pretraining that excludes unseen tasks."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from augment import SeenTasks, Selection, Task, load_tasks, open_puzzle_set
from pipeline.checkpoints.backbone import write_backbone
from pipeline.checkpoints.checkpoint import CARD, Checkpoint, load_checkpoint, save_checkpoint
from pipeline.config.run_config import override
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.training.setup import make_learner
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel
from solver.training.learner import Learner
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.commands import refuse, run
from tests.helpers.resume import Crash, after, crash, tensors
from tests.helpers.strategies import disguise

MEGABYTE = 1_000_000
UNSEEN = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=4))
"""What the recipe `smoke` scores."""
OTHERS = load_tasks("arc-agi-1/training", Selection(max_side=5))[4:9]


def test_a_backbone_keeps_the_averaged_weights_and_the_mean_of_the_trained_rows(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    checkpoint.id_rows[1] = 0
    size = write_backbone(checkpoint, tmp_path / "backbone", {"score before": "0%"})
    assert size == sum(file.stat().st_size for file in (tmp_path / "backbone").iterdir())
    backbone = load_checkpoint(tmp_path / "backbone")
    best = checkpoint.best_weights()
    assert backbone.weights.keys() == best.keys()
    for name, value in backbone.weights.items():
        assert torch.equal(value, best[name].bfloat16().float()), name
    assert (backbone.average, backbone.keys, backbone.id_rows.shape) == (None, [], (0, checkpoint.id_rows.shape[1]))
    assert_close(backbone.new_row(), checkpoint.id_rows[[0, 2, 3, 4, 5]].mean(dim=0))
    assert (backbone.seen.to_json(), backbone.leaks, backbone.step) == (checkpoint.seen.to_json(), checkpoint.leaks, 7)
    assert "score before: 0%" in (tmp_path / "backbone" / CARD).read_text()


def test_a_backbone_of_a_backbone_starts_new_rows_at_the_same_place(tmp_path: Path) -> None:
    write_backbone(make_checkpoint(), tmp_path / "one", {})
    one = load_checkpoint(tmp_path / "one")
    write_backbone(one, tmp_path / "two", {})
    assert torch.equal(load_checkpoint(tmp_path / "two").new_row(), one.new_row())


def test_scores_may_be_added_to_the_card_and_nothing_else_changed(tmp_path: Path) -> None:
    backbone = tmp_path / "backbone"
    write_backbone(make_checkpoint(), backbone, {})
    (backbone / CARD).write_text("score after test-time training: 10%")
    load_checkpoint(backbone)
    (backbone / "seen.json").write_text("{}")
    with pytest.raises(ValueError, match=r"seen\.json"):
        load_checkpoint(backbone)


def test_a_backbone_of_the_published_size_has_at_most_16_megabytes(tmp_path: Path) -> None:
    model = RecursiveModel(ModelConfig())
    config = override(recipe("kaggle_backbone"), {"model.h_cycles": 3}).model_dump(mode="json")
    seen = SeenTasks.remember(load_tasks("kaggle-2025/training", Selection(limit=200)))
    keys = [f"task{number}" for number in range(100)]
    checkpoint = Checkpoint(model.state_dict(), None, torch.ones(100, 512), keys, 1, config, seen)
    assert write_backbone(checkpoint, tmp_path / "backbone", {}) < 16 * MEGABYTE


def test_training_starts_from_a_backbone_with_its_weights_and_every_row_at_its_start(tmp_path: Path) -> None:
    write_backbone(make_checkpoint(), tmp_path / "backbone", {})
    backbone, config = load_checkpoint(tmp_path / "backbone"), recipe("smoke")
    learner = make_learner(config, ["00d62c1b", "11852cab"], torch.device("cpu"), Console(), backbone)
    assert_close(dict(learner.model.state_dict()), backbone.weights, rtol=0, atol=0)
    assert all(torch.equal(row, backbone.new_row()) for row in learner.table.weights_PI)


def test_the_command_makes_a_backbone_and_its_card_says_how_it_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final, backbone = tmp_path / "run" / "checkpoints" / "final", tmp_path / "backbone"
    save_checkpoint(final, make_checkpoint())
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 7, "seconds": 185.2}\n')
    (tmp_path / "run" / "versions.json").write_text('{"commit": "c0ffee", "torch": "2.8.0"}')
    assert run("backbone", final, "--out", backbone, "--note", "data=six puzzles", "--note", "score=x=y") == 0
    card = (backbone / CARD).read_text()
    for said in ("data: six puzzles", "score: x=y", "training time: 3m05s", "commit c0ffee", "7 steps", "6 ID rows"):
        assert said in card
    assert "exists already" in refuse(capsys, "backbone", final, "--out", backbone), "its card would be another"
    assert run("backbone", final, "--out", backbone, "--note", "data=six puzzles", "--note", "score=x=y") == 0
    assert "holds this backbone already" in capsys.readouterr().out
    assert "NAME=TEXT" in refuse(capsys, "backbone", final, "--out", tmp_path / "other", "--note", "six puzzles")
    assert "is not a checkpoint" in refuse(capsys, "backbone", tmp_path, "--out", tmp_path / "other")


def write_tasks(folder: Path, tasks: list[Task]) -> Path:
    folder.mkdir()
    for task in tasks:
        parts = {"train": task.demonstrations, "test": task.tests}
        value = {
            name: [
                {"input": pair.input.tolist(), "output": pair.output.tolist()}
                for pair in pairs
                if pair.output is not None
            ]
            for name, pairs in parts.items()
        }
        (folder / f"{task.id}.json").write_text(json.dumps(value))
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source that holds unseen tasks: one as it is, one disguised under another ID, one under its ID only."""
    renamed = replace(OTHERS[0], id=UNSEEN[2].id)
    tasks = [UNSEEN[0], disguise(UNSEEN[1], 1, "disguised"), renamed, *OTHERS[1:]]
    return write_tasks(tmp_path_factory.mktemp("sources") / "mixed", tasks)


def command(mixed: Path, folder: Path) -> tuple[str | Path, ...]:
    smoke = ("pretrain", "--recipe", "smoke", "--train", mixed, "--set", "train.checkpoint_every=4")
    return (*smoke, "--set", "train.steps=17", "--run-dir", folder / "run", "--out", folder / "backbone")


@pytest.fixture(scope="module")
def pretrained(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pretraining."""
    folder = tmp_path_factory.mktemp("pretrained")
    assert run(*command(mixed, folder)) == 0
    return folder


def test_pretraining_leaves_the_unseen_tasks_out_and_says_so(mixed: Path, pretrained: Path) -> None:
    trained = open_puzzle_set(pretrained / "run" / "puzzles")
    assert [task.id for task in trained.tasks] == sorted(task.id for task in OTHERS[1:])
    assert set(trained.roles) == {"train"}
    assert all(len(trained.training_pairs(n)) > len(trained.tasks[n].demonstrations) for n in range(len(OTHERS) - 1))
    log = (pretrained / "run" / "log.txt").read_text()
    held = ", ".join(sorted([UNSEEN[0].id, UNSEEN[2].id, "disguised"]))
    assert f"left out of {mixed}, tasks that contain an unseen task (3): {held}" in log
    backbone = load_checkpoint(pretrained / "backbone")
    assert backbone.seen.find_all(UNSEEN) == []
    assert backbone.seen.complete
    assert (backbone.step, backbone.keys) == (17, [])
    final = load_checkpoint(pretrained / "run" / "checkpoints" / "final")
    assert_close(backbone.new_row(), final.id_rows[final.id_rows.any(dim=1)].mean(dim=0))
    card = (pretrained / "backbone" / CARD).read_text()
    assert f"{mixed} (4 tasks)" in card
    assert "unseen: 4 tasks of arc-agi-1/training" in card


def test_pretraining_goes_on_where_it_was_killed(
    mixed: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(6, crash))
        with pytest.raises(Crash):
            run(*command(mixed, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(11, lambda: signal.raise_signal(signal.SIGTERM)))
        assert run(*command(mixed, tmp_path)) == 128 + signal.SIGTERM
    assert not (tmp_path / "backbone").exists()
    assert run(*command(mixed, tmp_path)) == 0
    assert_close(tensors(tmp_path / "backbone"), tensors(pretrained / "backbone"), rtol=0, atol=0)


def test_the_backbone_of_a_part_is_replaced_by_that_of_the_whole_and_nothing_else_is(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(mixed, tmp_path)
    assert run(*words, "--budget", "0.01s") == 0
    assert load_checkpoint(tmp_path / "backbone").step < 17
    assert run(*words) == 0
    assert load_checkpoint(tmp_path / "backbone").step == 17
    before = (tmp_path / "backbone" / "model.safetensors").read_bytes()
    other = (*words[:-4], "--run-dir", tmp_path / "other", "--out", tmp_path / "backbone")
    assert "exists already" in refuse(capsys, *other, "--set", "seed=1")
    (tmp_path / "mine").mkdir()
    assert "exists already" in refuse(capsys, *words[:-1], tmp_path / "mine")
    assert (tmp_path / "backbone" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_a_pretraining_of_nothing_or_from_something_is_refused(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("pretrain", "--recipe", "smoke", "--run-dir", tmp_path / "run", "--out", tmp_path / "backbone")
    assert "--train" in refuse(capsys, *words)
    started = refuse(capsys, *words, "--train", mixed, "--set", "checkpoint=there")
    assert "leave the checkpoint out" in started
    large = refuse(capsys, *words, "--train", mixed, "--set", "puzzles.max_side=1")
    assert "raise puzzles.max_side" in large
    assert not (tmp_path / "backbone").exists()
