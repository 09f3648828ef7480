"""Settings beside published weights: found, translated, and refused where a value is impossible."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from augment.errors import UserError
from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.checkpoints.convert_trm import convert
from pipeline.checkpoints.published_settings import read_settings
from pipeline.config.run_config import build_config
from pipeline.runtime.console import Console
from solver.model.config import ModelConfig
from tests.helpers.published import published_tensors

TEXT = """
arch:
  H_cycles: 5
  L_cycles: 7
  num_heads: 2
  halt_max_steps: 9
  hidden_size: 32
  L_layers: 1
  puzzle_emb_len: 3
  mlp_t: false
ema: true
lr: 1e-4
"""


def convert_with(text: str, folder: Path, overrides: dict[str, Any] | None = None) -> ModelConfig:
    save_file(published_tensors(), folder / "step_3.safetensors")
    (folder / "all_config.yaml").write_text(text)
    convert(folder, folder / "ours", None, {"model.board_side": 4, **(overrides or {})}, Console())
    return build_config(load_checkpoint(folder / "ours").config).model


def test_cycles_heads_and_steps_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = convert_with(TEXT, tmp_path)
    assert (model.h_cycles, model.l_cycles, model.heads, model.max_steps, model.id_slots) == (5, 7, 2, 9, 3)
    text = capsys.readouterr().out
    assert "model.l_cycles = 7" in text
    assert "all_config.yaml" in text
    assert "assumed" not in text


def test_an_override_is_above_the_file(tmp_path: Path) -> None:
    assert convert_with(TEXT, tmp_path, {"model.l_cycles": 2}).l_cycles == 2


def test_what_the_file_leaves_out_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert_with("arch: {num_heads: 4}", tmp_path).heads == 4
    assert "model.h_cycles is not in the file: assumed to be 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch: {num_heads: two}", "num_heads is not a whole number"),
        ("arch: {H_cycles: 0}", "H_cycles is not"),
        ("arch: {H_cycles: true}", "H_cycles is not"),
        ("arch: {L_cycles: 1e9}", "L_cycles is not"),
        ("arch: {L_cycles: 99999999}", "L_cycles is not"),
        ("arch: {hidden_size: 512}", "512 hidden, and the tensors have 32"),
        ("arch: {L_layers: 2}", "2 layers, and the tensors have 1"),
        ("arch: [", "not valid YAML"),
        ("- 1", "no settings by name"),
        ("a: !!python/object/apply:os.mkdir [ran]", "not valid YAML"),
        ("a: 2026-13-45", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("#" * 2**21, "too many"),
        ("<html></html>", "web page"),
        ("version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("", "is empty"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        convert_with(text, tmp_path)
    assert not (tmp_path / "ours").exists()


def test_a_document_that_holds_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "all_config.yaml").write_text("&a\narch: *a\nnum_heads: 2\n")
    assert read_settings(tmp_path / "weights", {})[0] == {"heads": 2}


def test_settings_in_the_checkpoint_itself_are_taken(tmp_path: Path) -> None:
    lightning = {"state_dict": {}, "hyper_parameters": {"config": {"arch": {"H_cycles": 6}}, "lr": 0.1}}
    assert read_settings(tmp_path / "last.ckpt", lightning) == (
        {"h_cycles": 6},
        f"'hyper_parameters' in {tmp_path / 'last.ckpt'}",
    )
    assert read_settings(tmp_path / "last.ckpt", {"config": {"name": "mine"}}) == ({}, "")


@pytest.mark.parametrize(
    ("sizes", "slots"),
    [({"puzzle_emb_ndim": 512, "hidden_size": 512}, 1), ({"puzzle_emb_ndim": 33, "hidden_size": 32}, 2), ({}, None)],
)
def test_no_length_of_the_embedding_is_what_it_fills(sizes: dict[str, int], slots: int | None, tmp_path: Path) -> None:
    content = {"config": {"puzzle_emb_len": 0, "H_cycles": 1, **sizes}}
    assert read_settings(tmp_path / "a", content)[0].get("id_slots") == slots
