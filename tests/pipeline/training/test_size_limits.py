"""Settings that no run can have are refused with an estimate, before work begins; every recipe is accepted."""

import json
from pathlib import Path

import pytest
import torch

from augment import SourcedTasks, build_puzzle_set
from augment.errors import UserError
from pipeline.config.run_config import ConfigError, RunConfig, override, parse_assignments
from pipeline.recipes.registry import RECIPES, recipe
from pipeline.runtime import machine
from pipeline.runtime.console import Console
from pipeline.runtime.exit_codes import ExitCode, NoDeviceError
from pipeline.training import size_limits
from pipeline.training.size_limits import check_prediction, check_sizes, check_training, count_weights
from solver.model.model import RecursiveModel
from tests.helpers.commands import refuse, run
from tests.helpers.mutations import reseal
from tests.helpers.sources import FIRST, SECOND, write_source

GPU = 80 * 2**30


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_accepted_on_a_gpu_machine_and_its_weights_are_counted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limits, "device_memory", lambda: GPU)
    monkeypatch.setattr(size_limits, "speed_bound", lambda: machine.GPU_FLOP)
    config = recipe(name)
    check_training(config)
    check_prediction(config)
    with torch.device("meta"):
        model = RecursiveModel(config.model)
    real = sum(weights.numel() for weights in model.parameters())
    assert count_weights(config.model) == pytest.approx(real, rel=0.1) or config.model.learns_noise
    assert count_weights(config.model) <= 1.01 * real


def change(*texts: str) -> RunConfig:
    return override(recipe("smoke"), parse_assignments(list(texts)))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["model.hidden=1000000000", "model.heads=1"], "model.hidden=1000000000.*GiB"),
        (["model.layers=1000000000"], "model.layers=1000000000.*GiB"),
        (["model.expansion=1e9"], "model.expansion=1e.09.*GiB"),
        (["train.batch_size=1000000000"], "train.batch_size=1000000000.*GiB"),
        (["model.h_cycles=2000000000", "train.steps=1000000000"], "train.steps=1000000000.*days"),
        (["train.steps=1000000000000000"], "train.steps=1000000000000000.*days"),
        (["train.curriculum=[[0.5, 1, 2000000000]]"], "model.l_cycles=2000000000.*GiB"),
        (["train.curriculum=[[0.5, 2000000000, 2]]", "train.steps=1000000000"], "train.steps=1000000000.*days"),
    ],
)
def test_training_that_cannot_be_is_refused_with_an_estimate(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_training(change(*texts))


@pytest.mark.parametrize(
    "text",
    [
        *("model.max_steps=1000000", "predict.steps=1000000", "puzzles.augmentations=1000000000000"),
        *("seed=-1", f"seed={2**64}", "budget=-1h", "budget=1e40", "budget=" + "9" * 30 + "h", "ensemble=1000000000"),
        *("selection.max_side=0", "puzzles.pairs=0", "predict.trajectories=-3", "train.checkpoint_every=0"),
        *("train.log_every=0", f"train.steps={10**30}", f"model.hidden={10**400}", "model.hidden=" + "9" * 5000),
        *("train.lr=NaN", "train.weight_decay=Infinity", "train.betas=[NaN, 0.9]", "train.average=-Infinity"),
        *("model.rope_theta=NaN", "model.equilibrium.tolerance=NaN", "train.evidence.free_bits=Infinity"),
        *("source=" + "x" * 1_000_000, "train.steps=" + "x" * 1_000_000, "x" * 1_000_000 + "=1"),
        "train.lr=" + "[" * 10**5,
        *("train_sources=[" + "1," * 1000 + "1]", "train.curriculum=[[0.5, 1e400, 2]]"),
        *("train.curriculum=[[0.5, 1000000000000, 2]]", "train.curriculum=[[0.5, 1, 1000000000000]]"),
        *("model.equilibrium.iterations=1000000000000", "model.equilibrium.terms=1000000000000"),
    ],
)  # fmt: skip
def test_an_absurd_value_is_refused_in_a_short_message(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        change(text)
    assert len(str(refused.value)) < 3000


def test_a_command_refuses_before_any_file_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    absurd = ["--set", "train.batch_size=1000000000"]
    message = refuse(capsys, "solve", "--recipe", "smoke", "--run-dir", run, *absurd)
    assert "train.batch_size=1000000000" in message
    assert not run.exists()


def test_a_checkpoint_that_asks_for_an_impossible_model_is_refused_from_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_source(tmp_path / "tasks", FIRST)
    small = ("--recipe", "smoke", "--set", "train.steps=2")
    assert run("solve", source, *small, "--run-dir", tmp_path / "run") == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "final"
    file = checkpoint / "checkpoint.json"
    value = json.loads(file.read_text())
    value["config"]["model"] |= {"hidden": 10**9, "heads": 1}
    file.write_text(json.dumps(value))
    reseal(file)
    puzzles = ("--puzzles", tmp_path / "run" / "puzzles")
    for command in (
        ("predict", *puzzles, "--checkpoint", checkpoint, "--out", tmp_path / "out"),
        ("train", *puzzles, *small, "--checkpoint", checkpoint, "--run-dir", tmp_path / "other"),
    ):
        message = refuse(capsys, *command)
        assert str(checkpoint) in message
        assert "GiB of memory" in message


@pytest.mark.parametrize("number", ["1000000000000", "100000000"])
@pytest.mark.parametrize("form", ["puzzles", "published"])
def test_more_augmentations_than_there_are_or_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str, form: str
) -> None:
    words = ("build", "--score", "arc-agi-1/training", "--augmentations", number, "--out", tmp_path / "set")
    words = (*words, "--format", form)
    assert "augmentations" in refuse(capsys, *words)
    assert not (tmp_path / "set").exists()


def test_workers_are_limited_by_the_cores_with_a_line_and_processes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_count", lambda: 1)
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    source = write_source(tmp_path / "tasks", FIRST)
    assert machine.fit_workers(64, "--workers", Console()) == 4
    assert "--workers is 64, and this machine has 1 cores: 4 are started" in capsys.readouterr().out
    solve = ("solve", source, "--recipe", "smoke", "--processes", "64", "--run-dir", tmp_path / "run")
    assert "--processes is 64" in refuse(capsys, *solve)


def test_more_layers_than_can_be_created_are_refused_whatever_their_size() -> None:
    with pytest.raises(UserError, match="100,000 layers are more than 10,000"):
        check_training(change("model.layers=100000", "model.hidden=8"))


def test_layers_that_follow_one_another_take_time_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_limits, "speed_bound", lambda: 1e30)
    check_sizes(change("model.h_cycles=1000"))
    for texts in (["model.h_cycles=2000000000", "train.steps=100000"], ["train.task_steps=1000000000000"]):
        with pytest.raises(UserError, match=f"{texts[-1]}.*days"):
            check_sizes(change(*texts))
    with pytest.raises(UserError, match=r"h_cycles=2000000000.*the prediction of 1 test inputs.*days"):
        check_prediction(change("model.h_cycles=2000000000", "predict.steps=60000"))


@pytest.mark.parametrize("text", ["model.h_cycles=100000000", "train.curriculum=[[0.5, 100000000, 2]]"])
def test_a_step_without_end_is_refused_even_if_there_are_few_of_them(text: str) -> None:
    for few in ("train.steps=1", "budget=1h"):
        with pytest.raises(UserError, match=r"h_cycles=100000000.*step has \d+,000,000 layers.*minutes"):
            check_training(change(text, few))


def test_steps_on_each_task_are_left_to_the_supervisor_of_an_unattended_run() -> None:
    texts = parse_assignments(["train.task_steps=1000000000000"])
    check_sizes(override(recipe("kaggle"), texts | {"budget": "1h"}))


def test_iterations_that_may_not_be_needed_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_limits, "speed_bound", lambda: 1000.0)
    few, many = ({"model.equilibrium.iterations": number, "train.steps": 20} for number in (1, 10_000))
    for values in (few, many):
        check_training(override(recipe("smoke_equilibrium"), values))
    with pytest.raises(UserError, match="days"):
        check_training(override(recipe("smoke_equilibrium"), few | {"train.steps": 200_000}))


def test_all_predictions_of_a_puzzle_set_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    puzzle_set = build_puzzle_set([SourcedTasks("a", "scored", [FIRST, SECOND])], 5, 0)
    inputs = (1 + 5) * (len(FIRST.tests) + len(SECOND.tests))
    texts = ("predict.noise=0.2", "predict.trajectories=60000", "predict.augmentations=1000000000000")
    check_prediction(change(*texts), puzzle_set)
    monkeypatch.setattr(size_limits, "main_memory", lambda: 24 * 60000 * inputs - 1)
    with pytest.raises(UserError, match=f"predict.trajectories=60000.*the list of {60000 * inputs:,} predictions.*GiB"):
        check_prediction(change(*texts), puzzle_set)
    check_prediction(change(*texts[:2], "predict.augmentations=0"), puzzle_set)
    monkeypatch.setattr(size_limits, "speed_bound", lambda: 1.0)
    with pytest.raises(UserError, match=f"the prediction of {inputs} test inputs.*days"):
        check_prediction(change(), puzzle_set)


def test_seeds_of_an_ensemble_fit_into_64_bits() -> None:
    change(f"seed={2**63 - 1001}", "ensemble=2")
    with pytest.raises(ConfigError, match="with ensemble=3 the last model's has more than 64 bits"):
        change(f"seed={2**63 - 1001}", "ensemble=3")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_count", lambda: 1)
    monkeypatch.setattr(machine, "count_gpus", lambda: 8)
    machine.check_processes(8)
    with pytest.raises(NoDeviceError, match=r"--processes is 9, and there are 8 GPUs; give 8 or fewer"):
        machine.check_processes(9)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    machine.check_processes(4)
    with pytest.raises(UserError, match="--processes is 9, and this machine has 1 cores; give 4 or fewer"):
        machine.check_processes(9)


def test_a_run_of_more_processes_than_gpus_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    words = ("--processes", "2", "--run-dir", tmp_path / "run")
    for recipe_name, more in (("smoke", ()), ("kaggle", ("arc-agi-1/training", "--budget", "10s"))):
        assert run("solve", *more, "--recipe", recipe_name, *words) == ExitCode.NO_DEVICE
        assert "--processes is 2, and there is 1 GPU" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
