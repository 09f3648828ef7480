"""ID rows are named after identifiers.json of TRM and of HRM; names that are not those of the rows are refused."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from augment.errors import UserError
from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.checkpoints.published_identifiers import BLANK, name_rows, separate
from tests.helpers.commands import refuse, run
from tests.helpers.published import published_tensors


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["00d62c1b", "00d62c1b_t7_0987654321"], ["00d62c1b", "00d62c1b|||t7|||0987654321"]),
        (["a_b_t2", "a_b_t2_t1_0213456789"], ["a_b_t2", "a_b_t2|||t1|||0213456789"]),
        (["other", "gone_t4_0132456789"], ["other", "gone|||t4|||0132456789"]),
        (
            ["x_t3_0213456789", "x_t3_0213456789_t5_0132456789"],
            ["x_t3_0213456789", "x_t3_0213456789|||t5|||0132456789"],
        ),
        (["t3_0213456789", "a_t3_021345678", "a_t3_02134567890", "a-t3-0213456789"], None),
        (["a|||t1|||0213456789", "b_t3_0213456789"], None),
    ],
)
def test_underscored_names_are_separated(names: list[str], keys: list[str] | None) -> None:
    assert separate(names) == (keys or names)


def write(names: Any, folder: Path) -> Path:
    (folder / "identifiers.json").write_text(json.dumps(names))
    return folder / "identifiers.json"


def test_the_rows_of_a_task_come_together(tmp_path: Path) -> None:
    rows = torch.arange(10.0).reshape(5, 2)
    names = [BLANK, "a", "b", "a_t1_0213456789", "b_t0_0132456789"]
    keys, named = name_rows(rows, write(names, tmp_path), 2)
    assert keys == ["a", "a|||t1|||0213456789", "b", "b|||t0|||0132456789"]
    assert torch.equal(named, rows[[1, 3, 2, 4]])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([BLANK, "a"], "list of 3 names.*it has 2"),
        ([BLANK, "a", 7], "list of 3 names"),
        ([BLANK, "a", None], "list of 3 names"),
        ({"a": 1}, "list of 3 names"),
        ([BLANK, "a", "a"], "names a 2 times"),
        ([BLANK, "a", "a_t9_0213456789"], "t9.*not an augmentation"),
        ([BLANK, "a", "a_t1_0113456789"], "colours are"),
        ([BLANK, "a", "a_t1_1023456789"], "not an augmentation"),
        ([BLANK, "a", "a|||t1"], "not an augmentation"),
    ],
)
def test_names_that_are_not_those_of_the_rows_are_refused(names: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"identifiers\.json.*{message}"):
        name_rows(torch.zeros(3, 2), write(names, tmp_path), 2)


def test_names_without_rows_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the checkpoint has none"):
        name_rows(None, write([BLANK], tmp_path), 2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="named pipe"):
        name_rows(torch.zeros(1, 2), tmp_path / "pipe", 2)
    (tmp_path / "page.json").write_text("<html>")
    with pytest.raises(UserError, match="web page"):
        name_rows(torch.zeros(1, 2), tmp_path / "page.json", 2)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("embed_tokens.embedding_weight", (12,), r"embed_tokens\.embedding_weight has shape \(12,\)"),
        ("embed_tokens.embedding_weight", (12, 31), "hidden|shape"),
        ("H_level.layers.0.mlp.down_proj.weight", (32, 2, 128), "has shape"),
        ("L_level.layers.0.mlp.down_proj.weight", (0, 0), "has shape"),
        ("L_level.layers.70000.mlp.down_proj.weight", (32, 256), "2 layers, and the last has number 70000"),
        ("L_level.layers.0.mlp.down_proj.bias", (32,), r"mlp\.down_proj\.bias is part of neither"),
        ("puzzle_emb.weights", (6,), r"puzzle_emb\.weights has shape \(6,\)"),
    ],
)
def test_tensors_of_other_shapes_and_names_are_refused(
    name: str, shape: tuple[int, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = published_tensors("", ("L_level", "H_level")) | {name: torch.ones(shape)}
    torch.save({"model": tensors}, tmp_path / "step_4")
    words = ("--out", tmp_path / "out", "--set", "model.heads=2", "--set", "model.board_side=4")
    assert re.search(f"step_4.*{message}", refuse(capsys, "convert", tmp_path / "step_4", *words))
    assert not (tmp_path / "out").exists()


def test_an_hrm_is_converted_with_its_names(tmp_path: Path) -> None:
    torch.save({"model": published_tensors(networks=("L_level", "H_level"))}, tmp_path / "step_4")
    names = write([BLANK, "a", "a_t1_0213456789", "b_c", "b_c_t2_0213456789", "d"], tmp_path)
    words = ("--out", tmp_path / "out", "--set", "model.heads=2", "--set", "model.board_side=4")
    assert run("convert", tmp_path / "step_4", "--identifiers", names, *words) == 0
    keys = load_checkpoint(tmp_path / "out").keys
    assert keys == ["a", "a|||t1|||0213456789", "b_c", "b_c|||t2|||0213456789", "d"]
