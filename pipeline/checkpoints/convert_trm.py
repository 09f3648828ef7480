"""Converts published TRM and HRM checkpoints to this project's tensor names, and back.

The input is a .safetensors file, or one saved by torch. The output is a checkpoint with the weights under our names,
the starting latents and the rows of the ID table. It can also be a backbone (`pipeline.checkpoints.backbone`), which
keeps only the mean of these rows.

Published tensor names may begin with any of the prefixes "_orig_mod.", "model." and "inner.", in this order.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from augment.augmentation import parse_puzzle_keys, puzzle_keys
from augment.errors import UserError
from augment.storage import read_json, refuse_special
from pipeline.checkpoints.backbone import require_new_folder, write_backbone
from pipeline.checkpoints.checkpoint import Checkpoint, save_checkpoint
from pipeline.config.run_config import RunConfig, override
from pipeline.runtime.console import Console
from solver.model.config import ModelConfig
from solver.model.equations import HRM
from solver.model.layers import inner_size
from solver.model.model import RecursiveModel

PREFIX = "model.inner."
ID_ROWS = "puzzle_emb.weights"
BLANK = "<blank>"
NOT_IN_THE_FILE = ("h_cycles", "l_cycles", "heads", "id_slots", "max_steps")
# Published name -> our name. BLOCK_NAMES has the part of a block's names after the block number.
NAMES = {
    "H_init": "h_start",
    "L_init": "l_start",
    "embed_tokens.embedding_weight": "token_embedding.weight",
    "lm_head.weight": "cell_head.weight",
    "q_head.weight": "halt_head.weight",
    "q_head.bias": "halt_head.bias",
}
BLOCK_NAMES = {
    "self_attn.qkv_proj.weight": "mixer.qkv.weight",
    "self_attn.o_proj.weight": "mixer.out.weight",
    "mlp_t.gate_up_proj.weight": "mixer.gate_up.weight",
    "mlp_t.down_proj.weight": "mixer.down.weight",
    "mlp.gate_up_proj.weight": "mlp.gate_up.weight",
    "mlp.down_proj.weight": "mlp.down.weight",
}
# The prefix of TRM's only network, and those of HRM's two networks.
LEVELS = {"L_level": "network"}
HRM_LEVELS = {"L_level": "network_l", "H_level": "network_h"}


def read_published(file: Path) -> tuple[dict[str, Tensor], Tensor | None]:
    """Read a published checkpoint.

    Returns:
        The weights under our names, and the ID rows (rows, id_size), None if the file has none.

    Raises:
        UserError: naming the file, if it cannot be read, or has a tensor with an unknown name or shape.
    """
    tensors = {_strip_prefixes(name): tensor for name, tensor in _read_tensors(file).items()}
    id_rows = tensors.pop(ID_ROWS, None)
    if id_rows is not None and id_rows.ndim != 2:
        raise UserError(f"{file}: tensor {ID_ROWS} has shape {tuple(id_rows.shape)}", "expected (rows, id_size)")
    names = name_table(hrm=any(name.startswith("H_level.") for name in tensors))
    return {_our_name(name, names, file): tensor for name, tensor in tensors.items()}, id_rows


def to_published(weights: Mapping[str, Tensor], id_rows: Tensor | None = None) -> dict[str, Tensor]:
    """Return the tensors under the published names, with the usual prefix: the inverse of `read_published`."""
    inverse = _inverse(weights)
    tensors = {PREFIX + _rename(name, inverse): tensor for name, tensor in weights.items()}
    return tensors if id_rows is None else tensors | {PREFIX + ID_ROWS: id_rows}


def name_table(hrm: bool) -> dict[str, str]:
    """Return {published name: our name}, with {} in place of a block's number."""
    levels = HRM_LEVELS if hrm else LEVELS
    blocks = {
        f"{level}.layers.{{}}.{published_name}": f"{network}.{{}}.{name}"
        for level, network in levels.items()
        for published_name, name in BLOCK_NAMES.items()
    }
    return NAMES | blocks


def _inverse(weights: Iterable[str]) -> dict[str, str]:
    return {name: published_name for published_name, name in name_table(is_hrm(weights)).items()}


def is_hrm(weights: Iterable[str]) -> bool:
    """Return whether these weights, under our names, are an HRM's."""
    return any(name.startswith("network_h.") for name in weights)


def infer_config(weights: Mapping[str, Tensor], id_rows: Tensor | None = None, **overrides: Any) -> ModelConfig:
    """Infer the model's settings from the tensors' shapes.

    The expansion is the published 4 if that gives the file's inner sizes, otherwise the smallest that does. An HRM gets
    the published 2 x 2 cycles, and as many ID slots as its ID rows fill.

    Args:
        weights: the tensors under our names.
        id_rows: the ID rows (rows, id_size), if the file has them.
        overrides: settings that shapes do not determine (heads, cycles, id_slots ...).

    Raises:
        UserError: if the weights are neither a TRM's nor an HRM's, or no whole expansion gives the inner sizes.
    """
    network = "network_l" if is_hrm(weights) else "network"
    missing = [name for name in ("token_embedding.weight", f"{network}.0.mlp.down.weight") if name not in weights]
    if missing:
        raise UserError(
            f"no tensor {missing[0]}: this is neither a TRM nor an HRM checkpoint", "only these can be converted"
        )
    vocabulary, hidden = weights["token_embedding.weight"].shape
    inferred: dict[str, Any] = {
        "hidden": hidden,
        "vocabulary": vocabulary,
        "layers": _count_layers(weights, network),
        "expansion": _expansion(weights, network),
        "mixer": "mlp" if f"{network}.0.mixer.down.weight" in weights else "attention",
        "id_size": None if id_rows is None else id_rows.shape[1],
    }
    if is_hrm(weights):
        higher = _count_layers(weights, "network_h")
        recursion = HRM if higher == inferred["layers"] else replace(HRM, layers=(("f_h", higher),))
        inferred |= {"recursion": recursion, "halting": "q_learning", "h_cycles": 2, "l_cycles": 2}
        inferred["id_slots"] = 1 if id_rows is None else -(-id_rows.shape[1] // hidden)  # rounded up
    return ModelConfig(**(inferred | overrides))


def _count_layers(weights: Mapping[str, Tensor], network: str) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith(f"{network}."))


def check_weights(weights: Mapping[str, Tensor], config: ModelConfig, file: Path) -> None:
    """Check that the weights are exactly the tensors of a model with this config, in the same shapes.

    Raises:
        UserError: naming the file and the tensor that is missing, unexpected or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in _empty_model(config).state_dict().items()}
    inverse = _inverse(expected)
    for name in sorted(expected.keys() | weights.keys()):
        published = _rename(name, inverse)
        if name not in weights:
            raise UserError(f"{file}: tensor {published} is missing", "give a complete checkpoint file")
        if name not in expected:
            raise UserError(
                f"{file}: tensor {published} is not part of a model of {config.layers} layers",
                "check the settings given with --set",
            )
        if weights[name].shape != expected[name]:
            shapes = f"{tuple(weights[name].shape)}, not {tuple(expected[name])}"
            raise UserError(
                f"{file}: tensor {published} has shape {shapes}", "set heads, id_slots and board_side to match"
            )


def _empty_model(config: ModelConfig) -> RecursiveModel:
    with torch.device("meta"):  # only names and shapes are needed, so no memory is allocated
        return RecursiveModel(config)


def _expansion(weights: Mapping[str, Tensor], network: str) -> float:
    """Return an expansion that gives every SwiGLU of the first block its inner size."""
    names = (f"{network}.0.mlp.down.weight", f"{network}.0.mixer.down.weight")
    sizes = [tuple(weights[name].shape) for name in names if name in weights]
    for expansion in (4, *range(1, 65)):
        if all(inner_size(size, expansion) == inner for size, inner in sizes):
            return float(expansion)
    raise UserError(f"no whole expansion gives the (size, inner size) of the SwiGLU layers, {sizes}")


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # if the bytes are not a pickle, the unpickler may raise any exception
        raise UserError(f"{file}: cannot be read as a checkpoint ({error})", "fetch the file again") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{file}: does not contain a dictionary of named tensors", "give a checkpoint's weights file")
    return tensors


def _strip_prefixes(name: str) -> str:
    return re.sub(r"^(_orig_mod\.|model\.|inner\.)+", "", name)


def _our_name(name: str, names: Mapping[str, str], file: Path) -> str:
    try:
        return _rename(name, names)
    except KeyError as error:
        raise UserError(f"{file}: tensor {name} is part of neither a TRM nor an HRM", "only these are read") from error


def _rename(name: str, names: Mapping[str, str]) -> str:
    number = re.search(r"\.(\d+)\.", name)
    if number is None:
        return names[name]
    return names[name.replace(number[0], ".{}.", 1)].format(number[1])


def convert(
    file: Path,
    out: Path,
    identifiers: Path | None,
    overrides: Mapping[str, Any],
    console: Console,
    backbone_only: bool = False,
) -> None:
    """Convert a published checkpoint to this project's format (`pipeline.checkpoints.checkpoint`).

    Args:
        file: the published weights.
        out: the folder to create.
        identifiers: the published identifiers.json, which names the ID rows; without it the ID table is left out.
        overrides: settings that the file does not contain, such as {"model.heads": 8} (NOT_IN_THE_FILE).
        console: where the assumed settings and the result are logged.
        backbone_only: write a backbone: the weights in bf16, and instead of the ID table the mean of its trained rows.

    Raises:
        UserError: naming the file, and the tensor or setting that does not fit.
    """
    require_new_folder(out)
    refuse_special(file)
    weights, id_rows = read_published(file)
    heads = {"heads": 1}  # a placeholder that divides any hidden size; the override below sets the real number
    inferred = RunConfig(recipe="converted", source=str(file), model=infer_config(weights, id_rows, **heads))
    config = override(inferred, {"model.heads": 8, **overrides})
    model = config.model
    check_weights(weights, model, file)
    keys, rows = _name_rows(id_rows, identifiers, model)
    converted = Checkpoint(weights, None, rows, keys, 0, config.model_dump(mode="json"))
    if backbone_only:
        _write_backbone(converted, id_rows, file, out, console)
    else:
        save_checkpoint(out, converted)
    assumed = {name: getattr(model, name) for name in NOT_IN_THE_FILE if f"model.{name}" not in overrides}
    for name, value in assumed.items():
        console.log(f"model.{name} is not in the file: assumed to be {value} (set it with --set model.{name}=...)")
    rest = "no ID rows: it is a backbone" if backbone_only else f"{len(keys):,} ID rows"
    console.log(f"{out}: {sum(tensor.numel() for tensor in weights.values()):,} values, {rest}")


def _write_backbone(converted: Checkpoint, id_rows: Tensor | None, file: Path, out: Path, console: Console) -> None:
    """Write the converted checkpoint as a backbone.

    Its start row is the mean of all ID rows except the blank one, which comes first. That needs no identifiers.json.
    """
    rows = converted.id_rows if id_rows is None else id_rows[1:]
    if not rows.any():
        console.log(f"{file} has no trained ID rows: new ones start at zero")
    card = {"converted from": file.name, "training": "as published; the file does not say how long"}
    write_backbone(replace(converted, id_rows=rows, keys=[]), out, card)


def _name_rows(id_rows: Tensor | None, identifiers: Path | None, model: ModelConfig) -> tuple[list[str], Tensor]:
    """Return the keys of the ID rows and the rows themselves, without the blank row."""
    if id_rows is None or identifiers is None:
        return [], torch.zeros(0, model.id_length)
    names = read_json(identifiers)
    if not isinstance(names, list) or len(names) != len(id_rows):
        raise UserError(
            f"{identifiers}: must be a list of {len(id_rows)} names, one per ID row of the checkpoint",
            "give the identifiers.json of the data set that it was trained on",
        )
    places = [row for row, name in enumerate(names) if name != BLANK]
    return puzzle_keys(*parse_puzzle_keys([names[row] for row in places])), id_rows[places]
