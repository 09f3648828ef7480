"""What version 0.1 wrote is read, resumed and scored the same: see tests/golden/v0.1/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from pipeline.config.run_config import override
from pipeline.recipes.registry import recipe
from submissions import read_predictions
from tests.helpers.commands import run
from tests.helpers.paths import GOLDEN

OLD = GOLDEN / "v0.1"
SMALL = [
    word
    for change in (
        *("model.hidden=8", "model.heads=2", "model.layers=1", "train.precision=fp64", "train.batch_size=4"),
        *("train.lr=5e-3", "train.log_every=100"),
    )
    for word in ("--set", change)
]
RUN = ("solve", "--recipe", "smoke", *SMALL, "--set", "train.steps=600", "--set", "train.checkpoint_every=595")
ENSEMBLE = ("solve", "--recipe", "smoke_symbols", *SMALL, "--set", "ensemble=2", "--set", "train.steps=300")
SIZES = [
    word
    for size in ("heads=2", "id_slots=1", "h_cycles=1", "l_cycles=2", "max_steps=2")
    for word in ("--set", f"model.{size}")
]
TASKS = ("arc-agi-1/training", "--max-side", "3", "--limit", "4")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(OLD, tmp_path / "v0.1"))


def same_answers(one: Path, other: Path) -> None:
    """The same grids of the same test inputs under the same augmentations; figures but for rounding."""
    ours, theirs = read_predictions(one), read_predictions(other)
    assert ours.tasks == theirs.tasks
    np.testing.assert_array_equal(ours.grids.ids, theirs.grids.ids)
    for name, column in vars(theirs.answers).items():
        np.testing.assert_allclose(getattr(ours.answers, name), column, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["finished", "ensemble"])
def test_a_run_scores_the_same(old: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", old / name, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((OLD / name / "score.json").read_text())


@pytest.mark.parametrize("name", ["finished", "ensemble"])
def test_predictions_vote_and_report_the_same(old: Path, name: str) -> None:
    submission = old / "submission.json"
    assert run("vote", old / name / "predictions", *TASKS, "--out", submission) == 0
    assert submission.read_bytes() == (OLD / name / "submission.json").read_bytes()
    assert run("validate", OLD / name / "submission.json", *TASKS) == 0
    assert run("report", old / name) == 0
    assert (old / name / "report.html").stat().st_size > 10_000


def test_a_stopped_run_resumes_to_the_same_weights_and_submission(old: Path) -> None:
    assert run(*RUN, "--run", old / "stopped") == 0
    assert "step 595" in (old / "stopped" / "log.txt").read_text()
    for name in ("model", "average", "ids"):
        file = Path("checkpoints") / "final" / f"{name}.safetensors"
        assert_close(load_file(old / "stopped" / file), load_file(OLD / "finished" / file), rtol=1e-9, atol=1e-9)
    same_answers(old / "stopped" / "predictions", OLD / "finished" / "predictions")
    for name in ("submission.json", "score.json"):
        assert (old / "stopped" / name).read_bytes() == (OLD / "finished" / name).read_bytes()


def test_a_finished_ensemble_is_not_made_again(old: Path) -> None:
    weights = old / "ensemble" / "ensemble" / "1" / "checkpoints" / "final" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert run(*ENSEMBLE, "--run", old / "ensemble") == 0
    assert weights.stat().st_mtime_ns == written
    for name in ("submission.json", "score.json"):
        assert (old / "ensemble" / name).read_bytes() == (OLD / "ensemble" / name).read_bytes()


@pytest.mark.parametrize(("name", "model"), [("finished", ""), ("ensemble", "ensemble/1")])
def test_a_checkpoint_predicts_the_same(tmp_path: Path, name: str, model: str) -> None:
    run_folder = OLD / name / model
    stored = ("--puzzles", OLD / name / "puzzles", "--checkpoint", run_folder / "checkpoints" / "final")
    assert run("predict", *stored, "--out", tmp_path / "predictions") == 0
    same_answers(tmp_path / "predictions", run_folder / "predictions")


def test_a_puzzle_set_is_built_with_the_same_bytes(tmp_path: Path) -> None:
    chosen = ("--score", *TASKS, "--augmentations", "3")
    assert run("build", *chosen, "--out", tmp_path / "set") == 0
    old = OLD / "finished" / "puzzles"
    for name in ("puzzles.parquet", "tasks.parquet"):
        assert (tmp_path / "set" / name).read_bytes() == (old / name).read_bytes(), name
    made, before = (json.loads((folder / "puzzle_set.json").read_text()) for folder in (tmp_path / "set", old))
    for about in (made, before):
        del about["versions"], about["sha256"]  # of Python and of the libraries, and of the whole
    assert made == before


def test_a_trunk_starts_training(old: Path) -> None:
    hardly = ("--set", "train.steps=1", "--set", "train.lr=1e-12")
    assert run(*RUN, *hardly, "--checkpoint", old / "trunk", "--run", old / "new") == 0
    weights = load_file(old / "new" / "checkpoints" / "final" / "model.safetensors")
    for name, tensor in load_file(OLD / "trunk" / "model.safetensors").items():
        assert_close(weights[name], tensor.to(weights[name].dtype), rtol=0, atol=1e-9)


def test_a_published_checkpoint_is_converted_the_same(tmp_path: Path) -> None:
    assert run("convert", OLD / "published.safetensors", "--out", tmp_path / "converted", *SIZES) == 0
    for name in ("model", "ids"):
        file = f"{name}.safetensors"
        assert_close(load_file(tmp_path / "converted" / file), load_file(OLD / "converted" / file), rtol=0, atol=0)
    loaded = ("--puzzles", OLD / "finished" / "puzzles", "--checkpoint", OLD / "converted")
    assert run("predict", *loaded, "--out", tmp_path / "predictions") == 2, "it has no ID rows"


def test_old_commands_and_options_keep_working(tmp_path: Path) -> None:
    assert run("trunk", OLD / "finished" / "checkpoints" / "final", "--out", tmp_path / "trunk") == 0
    assert run("convert", OLD / "published.safetensors", "--out", tmp_path / "other", *SIZES, "--trunk-only") == 0
    before = load_file(OLD / "trunk" / "model.safetensors")
    assert_close(load_file(tmp_path / "trunk" / "model.safetensors"), before, rtol=0, atol=0)
    assert load_file(tmp_path / "other" / "model.safetensors").keys() == before.keys()


def test_old_settings_and_recipes_keep_working() -> None:
    changed = override(recipe("smoke_gram"), {"train.evidence.told": "all", "train.evidence.untold": 0.0})
    assert (changed.train.evidence.posterior, changed.train.evidence.prior_share) == ("all", 0.0)
    assert recipe("kaggle_trunk") == recipe("kaggle_backbone")
    assert recipe("kaggle_trunk_small") == recipe("kaggle_backbone_small")
