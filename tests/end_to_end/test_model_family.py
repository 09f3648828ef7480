"""Every model of the family goes the whole way that TRM goes: solved, stopped, resumed, reported."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch.testing import assert_close

from augment import parse_puzzle_key
from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.recipes.registry import RECIPES, recipe
from solver.model.equations import DIRECT, EQUILIBRIUM, GRAM, HRM, SINGLE, UNIVERSAL
from solver.training.learner import Learner
from submissions.prediction_files import read_predictions
from tests.helpers.commands import run
from tests.helpers.paths import ROOT
from tests.helpers.resume import Crash, after, crash, lines, tensors

PATIENT = ("z_l = f(z_l + z_h + x) * l_cycles", "z_h = f(z_h + z_l + x) * 2")
"""The example of docs/models.md."""
SINGLE_LATENT = ("--set", f"model.recursion.updates={json.dumps(SINGLE.updates)}")
MEMBERS = {
    "hrm": ("--recipe", "smoke_hrm"),
    "direct": ("--recipe", "smoke_direct"),
    "single": ("--recipe", "smoke", *SINGLE_LATENT),
    "gram": ("--recipe", "smoke_gram"),
    "equilibrium": ("--recipe", "smoke_equilibrium"),
    "urm": ("--recipe", "smoke_urm"),
    "patient": ("--recipe", "smoke", "--set", f"model.recursion.updates={json.dumps(PATIENT)}"),
}
UPDATES = {
    "hrm": (2, 4),
    "direct": (1, 0),
    "single": (3, 0),
    "patient": (2, 2),
    "gram": (2, 4),
    "equilibrium": (1, 0),
    "urm": (4, 0),
}
"""Within a supervision step, of the answer and of other latents."""


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_solves_and_goes_on_where_it_was_stopped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: Sequence[str] = (*MEMBERS[name], "--set", "train.steps=9", "--set", "train.checkpoint_every=4")
    assert run("solve", *chosen, "--run-dir", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", after(6, crash))
        with pytest.raises(Crash):
            run("solve", *chosen, "--run-dir", tmp_path / "stopped")
    assert run("solve", *chosen, "--run-dir", tmp_path / "stopped") == 0
    assert "resumed at step 4" in (tmp_path / "stopped" / "log.txt").read_text()
    one, other = (tensors(tmp_path / run / "checkpoints" / "final") for run in ("whole", "stopped"))
    assert_close(one, other, rtol=0, atol=0)
    assert lines(tmp_path / "whole")[-1] == lines(tmp_path / "stopped")[-1]
    for file in ("submission.json", "score.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()

    answer, others = UPDATES[name]
    moved = lines(tmp_path / "whole")[-1]["moved"]
    assert sorted(map(len, moved.values())) == sorted(filter(None, (answer, others)))
    shown = next(iter(read_predictions(tmp_path / "whole" / "predictions").recursions.values()))
    assert (shown.answer_moved.shape[1], shown.reasoning_moved.shape[1]) == (answer, others)
    assert len(shown.reasoning) == (len(shown.answer) if others else 0)
    assert "Recursion" in (tmp_path / "whole" / "report.html").read_text()


def test_noise_on_what_is_not_carried_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--set", "model.recursion.carry=reset", "--set", "predict.noise=0.2", "--set", "predict.trajectories=2")
    assert run("solve", "--recipe", "smoke", *words, "--run-dir", tmp_path / "run") == 2
    assert "predict.noise: this model resets its latents at every supervision step" in capsys.readouterr().err


def test_puzzles_that_share_an_id_row_have_it_in_every_checkpoint(tmp_path: Path) -> None:
    words = ("--set", "puzzles.ids=shared", "--set", "train.steps=6", "--set", "train.checkpoint_every=3")
    assert run("solve", "--recipe", "smoke", *words, "--run-dir", tmp_path / "run") == 0
    folders = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["final", "step_0000003", "step_0000006"]
    for folder in folders:
        checkpoint = load_checkpoint(folder)
        assert checkpoint.keys == sorted({parse_puzzle_key(key)[0] for key in checkpoint.keys}), "one row a task"
        assert len(checkpoint.keys) == len(checkpoint.id_rows) > 1
        assert checkpoint.id_rows.any(), "something was learnt"


def test_the_example_of_the_documents_is_the_one_that_is_run() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    assert all(page.count(equation) >= 2 for equation in PATIENT)


def test_the_recipes_are_the_models_they_are_named_after() -> None:
    assert {"smoke_hrm", "smoke_direct", "smoke_gram", "smoke_equilibrium", "smoke_urm"} <= RECIPES.keys()
    gram, equilibrium, urm = (recipe(f"smoke_{name}").model for name in ("gram", "equilibrium", "urm"))
    assert (gram.recursion, gram.noise, equilibrium.recursion) == (GRAM, "learned", EQUILIBRIUM)
    assert (urm.recursion, urm.mlp, urm.h_cycles) == (UNIVERSAL, "conv_swiglu", 2)
    assert recipe("smoke_urm").train.optimizer == "muon"
    hrm, direct = recipe("smoke_hrm").model, recipe("smoke_direct").model
    assert (hrm.recursion, hrm.halting, hrm.forward_passes) == (HRM, "q_learning", 2)
    assert (direct.recursion, direct.h_cycles, direct.max_steps) == (DIRECT, 1, 1)
    assert direct.effective_depth == direct.layers


def test_another_network_is_refused_as_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solve", "--recipe", "smoke_hrm", "--set", "train.steps=1", "--run-dir", tmp_path / "hrm") == 0
    start = tmp_path / "hrm" / "checkpoints" / "final"
    assert run("solve", "--recipe", "smoke", "--checkpoint", start, "--run-dir", tmp_path / "trm") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "model.recursion.networks is ('f_l', 'f_h') there and ('f',) here" in said
    gradient = ("--set", "model.recursion.gradient=cycle", "--set", "train.steps=1")
    chosen = ("--recipe", "smoke_hrm", *gradient, "--checkpoint", start, "--run-dir", tmp_path / "other")
    assert run("solve", *chosen) == 0, "gradients may start elsewhere, as cycles may change"


FIGURES = {
    "gram": {"kl", "prior_width", "posterior_width"},
    "equilibrium": {"residual", "iterations", "adjoint_residual"},
    "urm": set(),
}


@pytest.mark.parametrize("name", FIGURES)
def test_what_a_recursion_says_of_itself_is_in_the_metrics(name: str, tmp_path: Path) -> None:
    assert run("solve", *MEMBERS[name], "--set", "train.steps=5", "--run-dir", tmp_path / "run") == 0
    last, plain = lines(tmp_path / "run")[-1], {"kl", "prior_width", "posterior_width", "residual", "iterations"}
    assert last.keys() & (plain | {"adjoint_residual"}) == FIGURES[name]
    assert all(last[figure] >= 0 for figure in FIGURES[name])


def test_trajectories_of_learnt_noise_are_voted_and_ranked_by_value(tmp_path: Path) -> None:
    chosen = (*MEMBERS["gram"], "--set", "train.steps=5", "--run-dir", tmp_path / "run")
    assert run("solve", *chosen, "--set", "predict.ranker=value") == 0
    answers = read_predictions(tmp_path / "run" / "predictions").answers
    assert sorted(set(answers.trajectory.tolist())) == [0, 1, 2]
    assert len(set(answers.value.tolist())) > 1
    first = answers.take((answers.task == 0) & (answers.test == 0) & (answers.augmentation == 0))
    for board in (False, True):
        again = first.take(first.board == board)
        assert len(set(again.log_prob.tolist())) == len(again), "each has chance of its own"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--recipe", "smoke_gram", "--set", "predict.temperature=0"), "set predict.temperature above 0"),
        (("--recipe", "smoke", "--set", "predict.trajectories=2"), "set noise too"),
        (("--recipe", "smoke", "--set", "predict.ranker=value"), "needs the value head"),
        (("--recipe", "smoke", "--set", "train.evidence.posterior=none"), "should be 'charged' or 'all'"),
        (("--recipe", "smoke", "--set", "train.evidence.kl_weight=-1"), "kl_weight = -1.0: must be 0 or more"),
        (("--recipe", "smoke", "--set", "model.mlp=relu"), "swiglu"),
        (("--recipe", "smoke", "--set", "model.noise_width=0"), "must be positive"),
    ],
)
def test_what_cannot_be_is_refused(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("solve", *words, "--run-dir", tmp_path / "run") == 2
    assert said in " ".join(capsys.readouterr().err.split())
