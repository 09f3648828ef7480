"""Several models of one config: the same as single runs pooled, resumed where they stopped, and within one budget."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.run_config import ConfigError, override
from pipeline.ensemble import SEEDS_APART, seconds_kept
from pipeline.recipes.registry import recipe
from pipeline.runtime.run_folder import read_metrics
from pipeline.time_budget import Budget
from submissions.prediction_files import read_predictions
from submissions.submission_file import read_submission
from tests.helpers.commands import launch, run

SMALL = ("--recipe", "smoke_symbols", "--limit", "3", "--set", "train.steps=30")


def solve(folder: Path, *settings: str) -> int:
    """In this process."""
    chosen = (word for text in settings for word in ("--set", text))
    return run("solve", *SMALL, "--run-dir", folder, "--processes", "1", *chosen)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models."""
    folder = tmp_path_factory.mktemp("runs") / "pair"
    assert solve(folder, "ensemble=2") == 0
    return folder


def test_an_ensemble_is_its_models_pooled(pair: Path, tmp_path: Path) -> None:
    """With all 8 transforms of each task puzzles do not depend on the seed, so single runs have the same ones."""
    for name, seed in (("0", 0), ("1", SEEDS_APART)):
        assert solve(tmp_path / name, f"seed={seed}") == 0
        ours, theirs = (
            read_predictions(path / "predictions").answers for path in (pair / "ensemble" / name, tmp_path / name)
        )
        assert len(ours) > 0
        assert np.array_equal(ours.log_prob, theirs.log_prob, equal_nan=True)
    merged = ("--merge", tmp_path / "1" / "predictions", "--out", tmp_path / "pooled.json")
    chosen = ("arc-agi-1/training", "--limit", "3", "--max-side", "3")
    assert run("vote", tmp_path / "0" / "predictions", *chosen, *merged) == 0
    assert read_submission(pair / "submission.json") == read_submission(tmp_path / "pooled.json")


def test_the_score_says_that_answers_are_pooled(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads((pair / "score.json").read_text())["merged"] == ["model 0", "model 1"]
    assert run("score", pair, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pass@2"] == json.loads((pair / "score.json").read_text())["pass@2"]


def test_train_says_that_it_makes_one_of_them(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for text in ("ensemble=2", "train.steps=1") for word in ("--set", text)]
    chosen = ("--puzzles", pair / "puzzles", "--recipe", "smoke_symbols", *settings)
    assert run("train", *chosen, "--run-dir", tmp_path / "run") == 0
    assert "model 1 of 2, seed 0: `train` makes this one only" in capsys.readouterr().out


def test_a_checkpoint_of_one_of_them_is_rescored_as_one_model(pair: Path, tmp_path: Path) -> None:
    chosen = ("--puzzles", pair / "puzzles", "--checkpoint", pair / "checkpoints" / "final", "--rescore", "2")
    assert run("predict", *chosen, "--out", tmp_path / "answers") == 0
    assert read_predictions(tmp_path / "answers").scores is not None


def test_models_that_are_there_are_not_trained_again(tmp_path: Path) -> None:
    assert solve(tmp_path / "run") == 0
    assert solve(tmp_path / "run", "ensemble=2") == 0
    assert solve(tmp_path / "run", "ensemble=2") == 0
    said = (tmp_path / "run" / "log.txt").read_text()
    assert said.count("training in float32") == 1
    assert said.count("training was already done") == 2
    assert len(read_metrics(tmp_path / "run" / "ensemble" / "1")) == len(read_metrics(tmp_path / "run"))


@pytest.mark.parametrize("models", [1, 2, 5])
def test_models_share_a_budget_alike(models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    budget, seconds, reserve = Budget(1000.0), 0.0, 7.0
    monkeypatch.setattr(Budget, "used", lambda self: seconds)
    trained = []
    for left in range(models, 0, -1):
        trained.append(budget.left(seconds_kept(budget, [reserve] * left)))
        seconds += trained[-1] + reserve
    assert trained == pytest.approx([(1000.0 - models * reserve) / models] * models)
    assert seconds_kept(Budget(None), [reserve] * models) == 0.0


def test_each_process_trains_models_alone_and_all_share_the_rest(pair: Path, tmp_path: Path) -> None:
    """Two processes, three models: the first two are those of one process.

    Up to rounding: functions of float32 may have another last bit in a process that did other things before.
    """
    words = ("solve", *SMALL, "--set", "ensemble=3", "--run-dir", tmp_path / "run")
    done = launch(2, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    for model in ("", "ensemble/1"):
        ours, theirs = (read_metrics(path / model) for path in (tmp_path / "run", pair))
        assert len(ours) > 1
        assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], abs=1e-4)
    said = [(tmp_path / "run" / model / "log.txt").read_text() for model in ("", "ensemble/1", "ensemble/2")]
    assert [text.count("processes: 1") for text in said] == [2, 2, 0]
    assert said[2].count("processes: 2") == 2
    assert json.loads((tmp_path / "run" / "score.json").read_text())["merged"] == ["model 0", "model 1", "model 2"]
    done = launch(2, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "log.txt").read_text().count("training was already done") == 1


def test_without_gpus_there_is_a_process_for_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    words = ("solve", *SMALL, "--set", "train.steps=4", "--run-dir", tmp_path / "run")
    assert run(*words, "--set", "ensemble=3") == 0
    said = [(tmp_path / "run" / model / "log.txt").read_text() for model in ("", "ensemble/1", "ensemble/2")]
    assert [text.count("processes: 1") for text in said] == [2, 2, 0]
    assert said[2].count("processes: 2") == 2


def test_a_process_waits_for_another_that_trains_longer(tmp_path: Path) -> None:
    """Where the first has its model already, and the second has none."""
    words = ("solve", *SMALL, "--run-dir", tmp_path / "run")
    assert launch(1, *words).returncode == 0
    done = launch(2, *words, "--set", "ensemble=2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "score.json").read_text())["merged"] == ["model 0", "model 1"]


@pytest.mark.parametrize("other", [{"predict.rescore": 5}, {"unattended": {}}])
def test_an_ensemble_is_refused_where_one_model_is_meant(other: dict) -> None:
    with pytest.raises(ConfigError, match="set ensemble=1"):
        override(recipe("smoke"), {"ensemble": 2, **other})


def test_a_backbone_is_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--recipe", "smoke", "--train", "concept", "--set", "ensemble=2", "--run-dir", tmp_path / "run")
    assert run("pretrain", *words, "--out", tmp_path / "backbone") == 2
    assert "a backbone is one model" in " ".join(capsys.readouterr().err.split())
