"""Ensembles: the same result as pooled single runs, resumed where they stopped, and within one budget."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.run_config import SEEDS_APART, ConfigError, override
from pipeline.ensemble import seconds_kept
from pipeline.recipes.registry import recipe
from pipeline.runtime.run_folder import read_metrics
from pipeline.time_budget import Budget
from submissions.prediction_files import read_predictions
from submissions.submission_file import read_submission
from tests.helpers.commands import launch, run

SMALL = ("--recipe", "smoke_symbols", "--limit", "3", "--set", "train.steps=30")


def solve(folder: Path, *settings: str) -> int:
    """Run `solve` in this process; returns its exit code."""
    options = (word for text in settings for word in ("--set", text))
    return run("solve", *SMALL, "--run-dir", folder, "--processes", "1", *options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with two models."""
    folder = tmp_path_factory.mktemp("runs") / "pair"
    assert solve(folder, "ensemble=2") == 0
    return folder


def test_an_ensemble_is_its_models_pooled(pair: Path, tmp_path: Path) -> None:
    """With all 8 transforms of each task puzzles do not depend on the seed, so single runs have the same ones."""
    for name, seed in (("0", 0), ("1", SEEDS_APART)):
        assert solve(tmp_path / name, f"seed={seed}") == 0
        member, single = (
            read_predictions(path / "predictions").answers for path in (pair / "ensemble" / name, tmp_path / name)
        )
        assert len(member) > 0
        assert np.array_equal(member.log_prob, single.log_prob, equal_nan=True)
    merge = ("--merge", tmp_path / "1" / "predictions", "--out", tmp_path / "pooled.json")
    source = ("arc-agi-1/training", "--limit", "3", "--max-side", "3")
    assert run("vote", tmp_path / "0" / "predictions", *source, *merge) == 0
    assert read_submission(pair / "submission.json") == read_submission(tmp_path / "pooled.json")


def test_the_score_names_the_pooled_models(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads((pair / "score.json").read_text())["merged"] == ["model 0", "model 1"]
    assert run("score", pair, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pass@2"] == json.loads((pair / "score.json").read_text())["pass@2"]


def test_train_logs_that_it_makes_one_model(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [word for text in ("ensemble=2", "train.steps=1") for word in ("--set", text)]
    options = ("--puzzles", pair / "puzzles", "--recipe", "smoke_symbols", *settings)
    assert run("train", *options, "--run-dir", tmp_path / "run") == 0
    assert "model 1 of 2, seed 0: `train` makes this one only" in capsys.readouterr().out


def test_a_checkpoint_of_one_of_them_is_rescored_as_one_model(pair: Path, tmp_path: Path) -> None:
    options = ("--puzzles", pair / "puzzles", "--checkpoint", pair / "checkpoints" / "final", "--rescore", "2")
    assert run("predict", *options, "--out", tmp_path / "answers") == 0
    assert read_predictions(tmp_path / "answers").scores is not None


@pytest.mark.slow
def test_finished_models_are_not_trained_again(tmp_path: Path) -> None:
    assert solve(tmp_path / "run") == 0
    assert solve(tmp_path / "run", "ensemble=2") == 0
    assert solve(tmp_path / "run", "ensemble=2") == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("training in float32") == 1
    assert log.count("training was already done") == 2
    assert len(read_metrics(tmp_path / "run" / "ensemble" / "1")) == len(read_metrics(tmp_path / "run"))


@pytest.mark.parametrize("models", [1, 2, 5])
def test_models_share_a_budget_equally(models: int, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(1000.0)
    seconds = 0.0
    reserve = 7.0
    monkeypatch.setattr(Budget, "used", lambda self: seconds)
    training_seconds = []
    for remaining in range(models, 0, -1):
        training_seconds.append(budget.left(seconds_kept(budget, [reserve] * remaining)))
        seconds += training_seconds[-1] + reserve
    assert training_seconds == pytest.approx([(1000.0 - models * reserve) / models] * models)
    assert seconds_kept(Budget(None), [reserve] * models) == 0.0


def test_each_process_trains_models_alone_and_all_share_the_rest(pair: Path, tmp_path: Path) -> None:
    """With two processes and three models, the first two models equal those of a run in one process.

    They agree up to rounding: float32 functions may differ in the last bit in a process that ran other code before.
    """
    words = ("solve", *SMALL, "--set", "ensemble=3", "--run-dir", tmp_path / "run")
    done = launch(2, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    for model in ("", "ensemble/1"):
        metrics, expected = (read_metrics(path / model) for path in (tmp_path / "run", pair))
        assert len(metrics) > 1
        assert [line["loss"] for line in metrics] == pytest.approx([line["loss"] for line in expected], abs=1e-4)
    logs = [(tmp_path / "run" / model / "log.txt").read_text() for model in ("", "ensemble/1", "ensemble/2")]
    assert [text.count("processes: 1") for text in logs] == [2, 2, 0]
    assert logs[2].count("processes: 2") == 2
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
    logs = [(tmp_path / "run" / model / "log.txt").read_text() for model in ("", "ensemble/1", "ensemble/2")]
    assert [text.count("processes: 1") for text in logs] == [2, 2, 0]
    assert logs[2].count("processes: 2") == 2


@pytest.mark.slow
def test_a_process_waits_for_another_that_trains_longer(tmp_path: Path) -> None:
    """The first process has its model already; the second has to train one."""
    words = ("solve", *SMALL, "--run-dir", tmp_path / "run")
    assert launch(1, *words).returncode == 0
    done = launch(2, *words, "--set", "ensemble=2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "score.json").read_text())["merged"] == ["model 0", "model 1"]


@pytest.mark.parametrize("other", [{"predict.rescore": 5}, {"unattended": {}}])
def test_an_ensemble_is_refused_where_one_model_is_required(other: dict) -> None:
    with pytest.raises(ConfigError, match="set ensemble=1"):
        override(recipe("smoke"), {"ensemble": 2, **other})


def test_a_backbone_is_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--recipe", "smoke", "--train", "concept", "--set", "ensemble=2", "--run-dir", tmp_path / "run")
    assert run("pretrain", *words, "--out", tmp_path / "backbone") == 2
    assert "a backbone is one model" in " ".join(capsys.readouterr().err.split())
