"""Conversion of published checkpoints: tensor names both ways, inferred settings, and errors for what does not fit.

Golden weights, saved as the published code saves them, give the golden predictions after conversion, and become
backbones.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from pipeline.checkpoints import convert_trm
from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.checkpoints.convert_trm import check_weights, convert, infer_config, read_published, to_published
from pipeline.checkpoints.id_table import match_rows
from pipeline.config.run_config import build_config
from pipeline.runtime.console import Console
from solver.model.config import ModelConfig
from solver.model.equations import HRM
from solver.model.model import RecursiveModel
from solver.training.deep_supervision import predict_steps
from tests.helpers.commands import refuse, run
from tests.helpers.golden_models import MODELS, Golden, check, load
from tests.helpers.golden_set import read_json

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


def test_a_tensor_of_no_known_part_is_named(tmp_path: Path) -> None:
    file = write(published(ATTENTION) | {"model.inner.M_level.layers.0.mlp.down_proj.weight": torch.ones(1)}, tmp_path)
    with pytest.raises(ValueError, match=r"step\.safetensors.*M_level\.layers\.0\.mlp\.down_proj"):
        read_published(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.inner.lm_head.weight": None}, "lm_head.weight is missing"),
        (
            {"model.inner.lm_head.weight": torch.ones(3, 3)},
            r"lm_head.weight has shape \(3, 3\), not \(12, 32\)",
        ),
        ({"model.inner.L_level.layers.0.mlp_t.down_proj.weight": torch.ones(18, 256)}, "is missing|is not part of"),
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
    with pytest.raises(ValueError, match="neither a TRM nor an HRM"):
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
    assert "model.h_cycles is not in the file: assumed to be 3" in said
    assert "model.heads" not in said, "it was given"


def test_identifiers_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "identifiers.json").write_text('["<blank>", "00d62c1b"]')
    with pytest.raises(ValueError, match="list of 5 names"):
        convert(
            write(published(ATTENTION), tmp_path), tmp_path / "ours", tmp_path / "identifiers.json", SETTINGS, Console()
        )
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.hidden=1000000000", "model.hidden is 1000000000, and the tensors have 32"),
        ("model.layers=100000", "model.layers, summed over the networks, is 100000, and the tensors have 3"),
        ("model.vocabulary=2000000000", "model.vocabulary is 2000000000, and the tensors have 12"),
        ("model.mixer=mlp", "model.mixer is mlp, and the tensors have attention"),
        ("model.expansion=1e9", "give an inner size of 21333333504, and the tensors have 512"),
        ("model.inner_multiple=2000000000", "give an inner size of 2000000000, and the tensors have 512"),
    ],
)
def test_a_setting_that_contradicts_the_tensors_is_refused_before_a_model_is_created(
    setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_trm, "RecursiveModel", None)
    file = write(published(ATTENTION), tmp_path)
    given = {name: value for name, value in SETTINGS.items() if name not in setting}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    said = refuse(capsys, "convert", file, "--out", tmp_path / "ours", *words, "--set", setting)
    assert f"{file}: " in said
    assert message in said
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("setting", ["model.l_cycles=2000000000", "model.id_slots=2000000000"])
def test_a_size_that_is_not_in_the_file_and_that_no_run_can_have_is_refused(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(published(ATTENTION), tmp_path)
    words = [word for name, value in SETTINGS.items() if name not in setting for word in ("--set", f"{name}={value}")]
    said = refuse(capsys, "convert", file, "--out", tmp_path / "ours", *words, "--set", setting)
    assert setting in said
    assert "GiB of memory" in said or "minutes" in said


def test_an_expansion_that_gives_the_same_inner_size_is_taken(tmp_path: Path) -> None:
    """13 x 32 x 2 / 3 = 277 and 16 x 32 x 2 / 3 = 341 are both rounded up to 512."""
    settings = SETTINGS | {"model.expansion": 16.0}
    convert(write(published(ATTENTION), tmp_path), tmp_path / "ours", None, settings, Console())
    assert build_config(load_checkpoint(tmp_path / "ours").config).model.expansion == 16


TABLE = "model.inner.puzzle_emb.weights"
PREFIXES = ("model.inner.", "_orig_mod.model.inner.")


@pytest.fixture(params=MODELS)
def golden(request: pytest.FixtureRequest) -> Golden:
    if not read_json("model_golden.json"):
        pytest.skip("there are no golden files")
    return load(request.param)


def golden_tensors(golden: Golden) -> dict[str, Tensor]:
    """Its initial weights, and the ID table; the rows of a table that was trained for a while are not zero."""
    return load_file(golden.file("weights_init")) | {TABLE: load_file(golden.file("weights_final"))[TABLE]}


def save_published(tensors: dict[str, Tensor], prefix: str, file: Path) -> Path:
    """As the published code saves its weights: by torch, under the names that a compiled model has or not."""
    torch.save({prefix + name.removeprefix("model.inner."): value for name, value in tensors.items()}, file)
    return file


def settings_of(golden: Golden) -> list[str]:
    """What the file does not hold, as one gives it to the command."""
    given = {
        "heads": golden.config["num_heads"],
        "h_cycles": golden.config["H_cycles"],
        "l_cycles": golden.config["L_cycles"],
        "id_slots": golden.id_slots,
        "board_side": round(golden.config["seq_len"] ** 0.5),
        "max_steps": golden.config["halt_max_steps"],
        "rms_epsilon": golden.config["rms_norm_eps"],
    }
    return [word for name, value in given.items() for word in ("--set", f"model.{name}={value}")]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_converted_checkpoint_predicts_what_the_published_code_does(
    golden: Golden, prefix: str, tmp_path: Path
) -> None:
    tensors = load_file(golden.file("weights_init"))
    file = save_published(tensors, prefix, tmp_path / "step_518226")
    names = ["<blank>", *(f"task{row}" for row in range(1, len(tensors[TABLE])))]
    (tmp_path / "identifiers.json").write_text(json.dumps(names))
    words = ("--identifiers", tmp_path / "identifiers.json", *settings_of(golden))
    assert run("convert", file, "--out", tmp_path / "ours", *words) == 0
    checkpoint, batch = load_checkpoint(tmp_path / "ours"), golden.batch(0)
    model = RecursiveModel(build_config(checkpoint.config).model)
    model.load_state_dict(checkpoint.best_weights())
    table, matched = match_rows(checkpoint, [names[row] for row in batch.puzzles_B])
    assert matched == len(batch)
    batch = replace(batch, puzzles_B=torch.arange(matched))
    for step, output in enumerate(predict_steps(model, table, batch, max(golden.steps("eval", "logits"))), start=1):
        check(output.logits_BCV, golden.io[f"eval.step{step}.logits"], golden.allowed(step), f"step {step}, logits")
        check(output.halt_B, golden.io[f"eval.step{step}.q_halt_logits"], golden.allowed(step), f"step {step}, halting")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_backbone_is_the_weights_and_the_mean_of_the_trained_rows(
    golden: Golden, prefix: str, tmp_path: Path
) -> None:
    """The blank row, which comes first, and rows that were never trained do not count; names are not needed."""
    tensors = golden_tensors(golden)
    tensors[TABLE][0], tensors[TABLE][3] = 100.0, 0.0
    file = save_published(tensors, prefix, tmp_path / "step_518226")
    assert run("convert", file, "--backbone-only", "--out", tmp_path / "backbone", *settings_of(golden)) == 0
    backbone = load_checkpoint(tmp_path / "backbone")
    assert (backbone.keys, len(backbone.id_rows)) == ([], 0)
    trained = [row for row in tensors[TABLE][1:] if row.any()]
    assert len(trained) < len(tensors[TABLE]) - 1
    assert_close(match_rows(backbone, ["new"])[0].weights_PI[0], torch.stack(trained).mean(dim=0))
    for name, value in to_published(backbone.weights).items():
        assert value.dtype == torch.float32
        assert_close(value, tensors[name], rtol=2**-8, atol=0)
    assert "step_518226" in (tmp_path / "backbone" / "README.md").read_text()


def test_without_an_id_table_new_rows_start_at_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = published(ATTENTION)
    del tensors[TABLE]
    settings = SETTINGS | {"model.id_size": 8}
    convert(write(tensors, tmp_path), tmp_path / "backbone", None, settings, Console(), backbone_only=True)
    assert not match_rows(load_checkpoint(tmp_path / "backbone"), ["new"])[0].weights_PI.any()
    assert "new ones start at zero" in capsys.readouterr().out


def test_an_hrm_brings_its_recursion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two networks of different depth, one-step gradient and Q-learning; of its cycles the published ones."""
    golden = load("hrm_attn")
    file = save_published(load_file(golden.file("weights_init")), "", tmp_path / "step_1000")
    convert(file, tmp_path / "ours", None, {"model.heads": 2, "model.board_side": 6}, Console())
    model = build_config(load_checkpoint(tmp_path / "ours").config).model
    assert model.recursion == replace(HRM, layers=(("f_h", 1),))
    assert (model.layers, model.halting, model.h_cycles, model.l_cycles) == (2, "q_learning", 2, 2)
    assert model.id_slots == golden.id_slots == 1, "as many as an ID row fills, where TRM has 16"
    assert "model.h_cycles is not in the file: assumed to be 2" in capsys.readouterr().out


def test_an_hrm_of_two_like_networks_is_that_of_a_recipe(tmp_path: Path) -> None:
    tensors = load_file(load("hrm_attn").file("weights_init"))
    even = {name: tensor for name, tensor in tensors.items() if "L_level.layers.1." not in name}
    assert len(even) < len(tensors)
    file = save_published(even, "", tmp_path / "step_1000")
    convert(file, tmp_path / "ours", None, {"model.heads": 2, "model.board_side": 6}, Console())
    assert build_config(load_checkpoint(tmp_path / "ours").config).model.recursion == HRM


def test_latents_in_half_precision_are_read(tmp_path: Path) -> None:
    """The published code keeps the starting latents in the precision that it computes in, bf16."""
    tensors = published(ATTENTION)
    tensors["model.inner.H_init"] = tensors["model.inner.H_init"].bfloat16()
    convert(write(tensors, tmp_path), tmp_path / "ours", None, SETTINGS, Console())
    loaded = load_checkpoint(tmp_path / "ours").weights["h_start"]
    assert torch.equal(loaded, tensors["model.inner.H_init"].float())
