"""Checkpoints that were altered and sealed again are refused with file and field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from pipeline.runtime.exit_codes import CheckpointError
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.mutations import reseal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", make_checkpoint())
    return tmp_path / "checkpoint"


def refuse(folder: Path, *texts: str) -> None:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("checkpoint.json", "step", -1), ("checkpoint.json", "step", True), ("checkpoint.json", "config", []),
        ("checkpoint.json", "leaks", [["a"]]), ("checkpoint.json", "leaks", None), ("checkpoint.json", "more", 1),
        ("checkpoint.json", "files", {}), ("checkpoint.json", "training", {}),
        ("keys.json", "tasks", []), ("keys.json", "tasks", {"a": ["0"]}), ("keys.json", "tasks", {"a": [-1]}),
        ("keys.json", "tasks", {"a": [2_903_040]}), ("keys.json", "more", 1),
        ("seen.json", "complete", 1), ("seen.json", "tasks", {"a": "12"}), ("seen.json", "demonstrations", [1]),
    ],
)  # fmt: skip
def test_altered_json_is_refused_with_the_field(folder: Path, name: str, field: str, value: Any) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    reseal(folder / "checkpoint.json", only_itself=name == "checkpoint.json")
    refuse(folder, str(file), field)


@pytest.mark.parametrize("field", ["tasks", "complete"])
def test_a_missing_field_is_named(folder: Path, field: str) -> None:
    file = folder / "seen.json"
    value = json.loads(file.read_text())
    del value[field]
    file.write_text(json.dumps(value))
    reseal(folder / "checkpoint.json")
    refuse(folder, f"{file}: {field}: Field required")


@pytest.mark.parametrize(
    ("alter", "text"),
    [
        (lambda ids: ids.pop("rows"), "rows is missing"),
        (lambda ids: ids.update(rows=ids["rows"][1:]), "by keys.json it must be 6 x"),
        (lambda ids: ids.update(rows=ids["rows"].long()), "'rows' is of type int64"),
        (lambda ids: ids["rows"].fill_(float("nan")), "'rows' has values that are not finite"),
        (lambda ids: ids.update(start=torch.zeros(3)), "start is 3 float32"),
        (lambda ids: ids.update(other=torch.zeros(3)), "'other' is no tensor of an ID table"),
    ],
)
def test_altered_puzzle_embeddings_are_refused(folder: Path, alter: Callable, text: str) -> None:
    file = folder / "ids.safetensors"
    tensors = load_file(file)
    alter(tensors)
    tensors.setdefault("rest", torch.zeros(1)) if not tensors else None
    save_file(tensors, file)
    reseal(folder / "checkpoint.json")
    refuse(folder, str(file), text)


@pytest.mark.parametrize("name", ["model", "average"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, name: str, value: float) -> None:
    file = folder / f"{name}.safetensors"
    tensors = load_file(file)
    first = min(tensors)
    tensors[first].view(-1)[0] = value
    save_file(tensors, file)
    reseal(folder / "checkpoint.json")
    refuse(folder, str(file), f"'{first}' has values that are not finite")
