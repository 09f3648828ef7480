"""Published checkpoints: names go back and forth, settings are found, and what does not fit is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from pipeline.checkpoint import load_checkpoint
from pipeline.config import build_config
from pipeline.convert import check_weights, convert, infer_config, read_published, to_published
from pipeline.rundir import Console
from solver.model import RecursiveModel
from solver.settings import ModelConfig

ATTENTION = ModelConfig(hidden=32, heads=2, board_side=4, id_slots=2, layers=3, expansion=13.0, id_size=8)
MLP = ModelConfig(hidden=32, heads=2, board_side=4, id_slots=2, mixer="mlp")


def published(config: ModelConfig) -> dict[str, Tensor]:
    return to_published(RecursiveModel(config).state_dict(), torch.randn(5, config.id_length))


def write(tensors: dict[str, Tensor], folder: Path) -> Path:
    save_file(tensors, folder / "step.safetensors")
    return folder / "step.safetensors"


@pytest.mark.parametrize("config", [ATTENTION, MLP])
def test_names_go_back_and_forth_and_the_settings_are_found(config: ModelConfig, tmp_path: Path) -> None:
    tensors = published(config)
    file = write(tensors, tmp_path)
    weights, id_rows = read_published(file)
    assert weights.keys() == RecursiveModel(config).state_dict().keys()
    assert_close(to_published(weights, id_rows), tensors, rtol=0, atol=0)
    found = infer_config(weights, id_rows, heads=2, board_side=4, id_slots=2)
    assert (found.hidden, found.layers, found.mixer, found.id_length) == (
        config.hidden,
        config.layers,
        config.mixer,
        config.id_length,
    )
    check_weights(weights, found, file)


def test_a_tensor_that_is_not_part_of_a_trm_is_named(tmp_path: Path) -> None:
    file = write(published(ATTENTION) | {"model.inner.H_level.layers.0.mlp.down_proj.weight": torch.ones(1)}, tmp_path)
    with pytest.raises(ValueError, match=r"step\.safetensors.*H_level\.layers\.0\.mlp\.down_proj"):
        read_published(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.inner.lm_head.weight": None}, "lm_head.weight is missing"),
        (
            {"model.inner.lm_head.weight": torch.ones(3, 3)},
            r"lm_head.weight has shape \(3, 3\), not \(12, 32\)",
        ),
        ({"model.inner.L_level.layers.0.mlp_t.down_proj.weight": torch.ones(18, 256)}, "is missing|no place"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    tensors = {name: value for name, value in (published(ATTENTION) | change).items() if value is not None}
    file = write(tensors, tmp_path)
    weights, id_rows = read_published(file)
    config = infer_config(weights, id_rows, heads=2, board_side=4, id_slots=2)
    with pytest.raises(ValueError, match=message):
        check_weights(weights, config, file)


@pytest.mark.parametrize("name", ["step.safetensors", "step.pt", "step_1000"])
@pytest.mark.parametrize("content", [b"", b"\x10\x00\x00", b"hello, world"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_published(file)


def test_a_file_that_is_not_there_or_holds_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.pt"):
        read_published(tmp_path / "nothing.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt"):
        read_published(tmp_path / "list.pt")


def test_weights_of_something_else_have_no_settings() -> None:
    with pytest.raises(ValueError, match="not a TRM"):
        infer_config({"layer.weight": torch.ones(1)})


SETTINGS = {"model.heads": 2, "model.board_side": 4, "model.id_slots": 2, "model.expansion": 13.0}


def test_a_converted_checkpoint_keeps_the_rows_that_have_a_name(tmp_path: Path) -> None:
    tensors = published(ATTENTION)
    names = ["<blank>", "00d62c1b", "00d62c1b|||t3|||0981543267", "007bbfb7", "007bbfb7|||t0|||0213456789"]
    (tmp_path / "identifiers.json").write_text(json.dumps(names))
    convert(write(tensors, tmp_path), tmp_path / "ours", tmp_path / "identifiers.json", SETTINGS, Console())
    checkpoint = load_checkpoint(tmp_path / "ours")
    assert checkpoint.keys == names[1:]
    assert torch.equal(checkpoint.id_rows, tensors["model.inner.puzzle_emb.weights"][1:])
    model = RecursiveModel(build_config(checkpoint.config).model)
    model.load_state_dict(checkpoint.best_weights())
    assert torch.equal(model.cell_head.weight, tensors["model.inner.lm_head.weight"])


def test_rows_without_names_are_left_out_and_settings_taken_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(write(published(ATTENTION), tmp_path), tmp_path / "ours", None, SETTINGS, Console())
    assert load_checkpoint(tmp_path / "ours").keys == []
    said = capsys.readouterr().out
    assert "model.h_cycles is not in the file: taken to be 3" in said
    assert "model.heads" not in said, "it was given"


def test_identifiers_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "identifiers.json").write_text('["<blank>", "00d62c1b"]')
    with pytest.raises(ValueError, match="list of 5 names"):
        convert(
            write(published(ATTENTION), tmp_path), tmp_path / "ours", tmp_path / "identifiers.json", SETTINGS, Console()
        )
    assert not (tmp_path / "ours").exists()
