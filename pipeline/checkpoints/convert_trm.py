"""Converts published TRM and HRM checkpoints to this project's tensor names, and back.

The input is a .safetensors file, one saved by torch, or a folder with one of these
(`pipeline.checkpoints.published_file`). The output is a checkpoint with the weights under our names, the starting
latents and the rows of the ID table. It can also be a backbone (`pipeline.checkpoints.backbone`), which keeps only the
mean of these rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from augment.errors import UserError
from augment.storage import refuse_other_folder
from pipeline.checkpoints.backbone import write_backbone
from pipeline.checkpoints.checkpoint import ABOUT, Checkpoint, save_checkpoint
from pipeline.checkpoints.published_file import find_weights, read_object
from pipeline.checkpoints.published_identifiers import name_rows
from pipeline.checkpoints.published_names import inverse_names, is_hrm, name_table, rename
from pipeline.checkpoints.published_settings import read_settings
from pipeline.checkpoints.published_tensors import PublishedTensors, select_tensors
from pipeline.config.run_config import RunConfig, override
from pipeline.runtime.console import Console
from solver.model.config import ModelConfig
from solver.model.equations import HRM
from solver.model.layers import inner_size
from solver.model.model import RecursiveModel

PREFIX = "model.inner."
ID_ROWS = "puzzle_emb.weights"
FIXED = {
    "hidden": "model.hidden",
    "vocabulary": "model.vocabulary",
    "mixer": "model.mixer",
    "symbols": "model.symbols",
    "total_layers": "model.layers, summed over the networks,",
}
"""Sizes that the tensors decide, as attributes of a ModelConfig, and what they are called in messages."""
NOT_IN_THE_FILE = ("h_cycles", "l_cycles", "heads", "id_slots", "max_steps")


def read_published(file: Path) -> tuple[dict[str, Tensor], Tensor | None]:
    """Read a published checkpoint.

    Returns:
        The weights under our names, and the ID rows (rows, id_size), None if the file has none.

    Raises:
        UserError: naming the file, if it cannot be read, or has a tensor with an unknown name or shape.
    """
    return _translate(select_tensors(read_object(file), file), file)


def _translate(published: PublishedTensors, file: Path) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the weights under our names, and the ID rows."""
    tensors = dict(published.tensors)
    id_rows = tensors.pop(ID_ROWS, None)
    if id_rows is not None and (id_rows.ndim != 2 or not id_rows.numel()):
        raise UserError(f"{file}: tensor {ID_ROWS} has shape {tuple(id_rows.shape)}", "expected (rows, id_size)")
    names = name_table(hrm=any(name.startswith("H_level.") for name in tensors))
    return {_our_name(name, names, file): tensor for name, tensor in tensors.items()}, id_rows


def to_published(weights: Mapping[str, Tensor], id_rows: Tensor | None = None) -> dict[str, Tensor]:
    """Return the tensors under the published names, with the usual prefix: the inverse of `read_published`."""
    inverse = inverse_names(weights)
    tensors = {PREFIX + rename(name, inverse): tensor for name, tensor in weights.items()}
    return tensors if id_rows is None else tensors | {PREFIX + ID_ROWS: id_rows}


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
    for name, tensor in weights.items():
        if name == "token_embedding.weight" or name.endswith(".down.weight"):
            _require_matrix(tensor, rename(name, inverse_names(weights)))
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


def _require_matrix(tensor: Tensor, published_name: str) -> None:
    if tensor.ndim != 2 or not tensor.numel():
        shape = tuple(tensor.shape)
        raise UserError(f"tensor {published_name} has shape {shape}, not (rows, columns)", "give another file")


def _count_layers(weights: Mapping[str, Tensor], network: str) -> int:
    """Return the number of blocks; UserError if their numbers are not 0, 1, 2 ..."""
    numbers = {int(name.split(".")[1]) for name in weights if name.startswith(f"{network}.")}
    if numbers != set(range(len(numbers))):
        last = max(numbers)
        raise UserError(f"there are {len(numbers)} layers, and the last has number {last}", "give a complete file")
    return len(numbers)


def check_weights(weights: Mapping[str, Tensor], config: ModelConfig, file: Path) -> None:
    """Check that the weights are exactly the tensors of a model with this config, in the same shapes.

    Raises:
        UserError: naming the file and the tensor that is missing, unexpected or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in _empty_model(config).state_dict().items()}
    inverse = inverse_names(expected)
    for name in sorted(expected.keys() | weights.keys()):
        published = _published_name(name, inverse)
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


def _published_name(name: str, inverse: Mapping[str, str]) -> str:
    """Return the published name of a tensor; its own name where --set asks for a part that nobody published."""
    try:
        return rename(name, inverse)
    except KeyError:
        return name


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


def _our_name(name: str, names: Mapping[str, str], file: Path) -> str:
    try:
        return rename(name, names)
    except KeyError as error:
        raise UserError(f"{file}: tensor {name} is part of neither a TRM nor an HRM", "only these are read") from error


def convert(
    path: Path,
    out: Path,
    identifiers: Path | None,
    overrides: Mapping[str, Any],
    console: Console,
    backbone_only: bool = False,
    check: Callable[[RunConfig], None] = lambda config: None,
) -> None:
    """Convert a published checkpoint to this project's format (`pipeline.checkpoints.checkpoint`).

    Args:
        path: the published weights, or the folder that has them, with all_config.yaml beside them or not.
        out: the folder to create.
        identifiers: the published identifiers.json, which names the ID rows; without it the ID table is left out.
        overrides: settings that the file does not contain, such as {"model.heads": 8} (NOT_IN_THE_FILE).
        console: where the assumed settings and the result are logged.
        backbone_only: write a backbone: the weights in bf16, and instead of the ID table the mean of its trained rows.
        check: raises a UserError for a config that no run can have; it is called before a model is created.

    Raises:
        UserError: naming the file, and the tensor or setting that does not fit.
    """
    refuse_other_folder(out, ABOUT)
    exists = out.exists()
    file = find_weights(path)
    content = read_object(file)
    published = select_tensors(content, file)
    weights, id_rows = _translate(published, file)
    settings, origin = read_settings(file, content)
    config = _configure(weights, id_rows, file, settings, overrides)
    check(config)
    check_weights(weights, config.model, file)
    keys, rows = name_rows(id_rows, identifiers, config.model.id_length)
    converted = Checkpoint(weights, None, rows, keys, 0, config.model_dump(mode="json"))
    if backbone_only:
        _write_backbone(converted, id_rows, file, out, console)
    else:
        save_checkpoint(out, converted, keep_same=True)
    if exists:
        console.log(f"{out} holds this checkpoint already")
    for line in (*published.remarks, *_describe_settings(config.model, settings, origin, overrides)):
        console.log(line)
    rest = "no ID rows: it is a backbone" if backbone_only else f"{len(keys):,} ID rows"
    console.log(f"{out}: {sum(tensor.numel() for tensor in weights.values()):,} values, {rest}")


def _configure(
    weights: Mapping[str, Tensor],
    id_rows: Tensor | None,
    file: Path,
    settings: Mapping[str, int],
    overrides: Mapping[str, Any],
) -> RunConfig:
    """Return the config that the shapes give, with the settings found beside them and, above all, the overrides."""
    heads = {"heads": 1}  # a placeholder that divides any hidden size; the override below sets the real number
    try:
        model = infer_config(weights, id_rows, **heads)
    except ValueError as error:  # the model's own checks of its sizes raise plain ones
        raise UserError(f"{file}: {error}") from error
    for name in settings.keys() & {"hidden", "layers"}:
        if settings[name] != getattr(model, name):
            sizes = f"{settings[name]} {name}, and the tensors have {getattr(model, name)}"
            raise UserError(f"{file}: the settings say {sizes}", "give the all_config.yaml of these weights, or none")
    found = {f"model.{name}": value for name, value in settings.items()}
    inferred = RunConfig(recipe="converted", source=str(file), model=model)
    config = override(inferred, {"model.heads": 8, **found, **overrides})
    _check_fixed(model, config.model, file)
    return config


def _check_fixed(inferred: ModelConfig, chosen: ModelConfig, file: Path) -> None:
    """Refuse settings that contradict the tensors' shapes, before a model of these sizes is created.

    Raises:
        UserError: naming the file, the setting and what the tensors have.
    """
    for attribute, name in FIXED.items():
        value = getattr(chosen, attribute)
        held = getattr(inferred, attribute)
        if value != held:
            raise UserError(f"{file}: {name} is {value}, and the tensors have {held}", "leave this setting out")
    sizes = [inner_size(model.hidden, model.expansion, model.inner_multiple) for model in (chosen, inferred)]
    if sizes[0] != sizes[1]:
        names = f"model.expansion={chosen.expansion:g} and model.inner_multiple={chosen.inner_multiple}"
        raise UserError(
            f"{file}: {names} give an inner size of {sizes[0]}, and the tensors have {sizes[1]}", "leave them out"
        )


def _describe_settings(
    model: ModelConfig, settings: Mapping[str, int], origin: str, overrides: Mapping[str, Any]
) -> list[str]:
    """Return lines on the settings that were found beside the weights, and on those that were assumed."""
    names = [name for name in NOT_IN_THE_FILE if f"model.{name}" not in overrides]
    found = ", ".join(f"model.{name} = {settings[name]}" for name in names if name in settings)
    assumed = [name for name in names if name not in settings]
    lines = [f"{found}: from {origin}"] if found else []
    for name in assumed:
        value = getattr(model, name)
        lines.append(f"model.{name} is not in the file: assumed to be {value} (set it with --set model.{name}=...)")
    return lines


def _write_backbone(converted: Checkpoint, id_rows: Tensor | None, file: Path, out: Path, console: Console) -> None:
    """Write the converted checkpoint as a backbone.

    Its start row is the mean of all ID rows except the blank one, which comes first. That needs no identifiers.json.
    """
    rows = converted.id_rows if id_rows is None else id_rows[1:]
    if not rows.any():
        console.log(f"{file} has no trained ID rows: new ones start at zero")
    card = {"converted from": file.name, "training": "as published; the file does not say how long"}
    write_backbone(replace(converted, id_rows=rows, keys=[]), out, card)
