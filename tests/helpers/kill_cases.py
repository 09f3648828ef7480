"""Every command that writes, on inputs so small that it takes a second."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.checkpoints.convert_trm import to_published
from pipeline.kaggle import bundle
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel
from tests.helpers.kill_points import ForkServer
from tests.helpers.kill_runs import KillCase
from tests.helpers.sources import FIRST, SECOND, THIRD, write_source

SIZES = {
    "model.hidden": 8, "model.heads": 1, "model.expansion": 1, "model.inner_multiple": 8, "model.layers": 1,
    "model.h_cycles": 1, "model.l_cycles": 1, "train.batch_size": 4, "train.steps": 2, "train.checkpoint_every": 1,
    "train.log_every": 1, "predict.second_pass": "false",
}  # fmt: skip
SMALL = [word for name, value in SIZES.items() for word in ("--set", f"{name}={value}")]
RECIPE = ["--recipe", "smoke", *SMALL]
PREDICT = ["predict", "--puzzles", "puzzles", "--checkpoint", "checkpoint"]
SOURCES = ["--score", "tasks", "--train", "others", "--augmentations", "2"]
PRETRAIN = ["pretrain", *RECIPE, "--set", "source=tasks", "--train", "others"]
SOLVE = ["solve", "tasks", *RECIPE, "--train", "others", "--set", "puzzles.augmentations=2"]
PUBLISHED = ModelConfig(hidden=32, heads=2, board_side=4, id_slots=2, layers=1, expansion=13.0, id_size=8)
SETTINGS = ("heads=2", "board_side=4", "id_slots=2", "expansion=13.0")
ROW = ["--row", "TRM-Att, Sudoku"]
TABLE_SIZES = [word for name in ("train.steps=2", "train.batch_size=4") for word in ("--set", name)]


def replace_wheels() -> None:
    """Make a bundle without pip and the network: a wheel that is no wheel, no installation, and a clean commit."""
    bundle.find_commit = lambda: "0" * 40
    bundle.build_wheels = _write_wheel
    bundle.check_bundle = lambda folder: "not checked"


def _write_wheel(folder: Path, commit: str) -> None:
    folder.mkdir()
    (folder / "arc_trm-0-py3-none-any.whl").write_text("a wheel")


CASES = [
    KillCase("build", ["build", *SOURCES, "--out", "set"]),
    KillCase("build published", ["build", *SOURCES, "--format", "published", "--out", "published"]),
    KillCase("solve", [*SOLVE, "--run-dir", "new_run", "--out", "mine.json"]),
    KillCase("train", ["train", "--puzzles", "puzzles", *RECIPE, "--run-dir", "new_run"]),
    KillCase("predict", [*PREDICT, "--out", "out"]),
    KillCase("predict and rescore", [*PREDICT, "--out", "out", "--rescore", "2"]),
    KillCase("rescore", [*PREDICT, "--out", "predictions", "--rescore", "2"]),
    KillCase("vote", ["vote", "predictions", "tasks", "--out", "mine.json"]),
    KillCase("report", ["report", "run"]),
    KillCase("report folder", ["report", "run", "--folder"]),
    KillCase("pretrain", [*PRETRAIN, "--run-dir", "new_run", "--out", "trunk"]),
    KillCase("backbone", ["backbone", "checkpoint", "--out", "trunk"]),
    KillCase("convert", ["convert", "published.safetensors", "--out", "converted",
                         *(word for name in SETTINGS for word in ("--set", f"model.{name}"))]),
    KillCase("table", ["table", "puzzles", *ROW, *TABLE_SIZES, "--out", "table"]),
    KillCase("bundle", ["bundle", "--backbone", "checkpoint", "--out", "dataset"], replace_wheels),
    KillCase("task page", ["tasks", "tasks", "--html", "page.html"]),
    KillCase("drawings", ["models", "--out", "drawings"]),
]  # fmt: skip
CASE = {case.name: case for case in CASES}


def write_inputs(server: ForkServer, inputs: Path) -> None:
    """Write the files that the cases need: two sources, a run with all its files, and a published checkpoint."""
    inputs.mkdir(parents=True)
    write_source(inputs / "tasks", FIRST, SECOND)
    write_source(inputs / "others", THIRD)
    ended = server.run([*SOLVE, "--run-dir", "run"], inputs)
    assert ended.code == 0, ended.said
    for source, copy in (("puzzles", "puzzles"), ("checkpoints/final", "checkpoint"), ("predictions", "predictions")):
        shutil.copytree(inputs / "run" / source, inputs / copy)
    torch.manual_seed(0)
    tensors = to_published(RecursiveModel(PUBLISHED).state_dict(), torch.randn(3, PUBLISHED.id_length))
    save_file(tensors, inputs / "published.safetensors")
    _warm_up(server, inputs)


def _warm_up(server: ForkServer, inputs: Path) -> None:
    """Let the server use the kernels of the cases; what it writes is removed."""
    copy = inputs.with_name("warm_up")
    shutil.copytree(inputs, copy)
    for name in ("build", "vote"):
        server.warm_up(CASE[name].words, copy)
    shutil.rmtree(copy)
