"""Published TRM checkpoints to this project's tensor names, and back.

In: a .safetensors file or a torch-saved one. Out: weights under our names, with the starting latents, and the
rows of the ID table.

Published names may carry the prefixes "_orig_mod.", "model." and "inner.", in that order, each or none.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from solver.model import ModelConfig, RecursiveModel

PREFIX = "model.inner."
ID_ROWS = "puzzle_emb.weights"
# Published name -> ours; {} is the number of a block.
NAMES = {
    "H_init": "h_start",
    "L_init": "l_start",
    "embed_tokens.embedding_weight": "token_embedding.weight",
    "lm_head.weight": "cell_head.weight",
    "q_head.weight": "halt_head.weight",
    "q_head.bias": "halt_head.bias",
    "L_level.layers.{}.self_attn.qkv_proj.weight": "network.{}.mixer.qkv.weight",
    "L_level.layers.{}.self_attn.o_proj.weight": "network.{}.mixer.out.weight",
    "L_level.layers.{}.mlp_t.gate_up_proj.weight": "network.{}.mixer.gate_up.weight",
    "L_level.layers.{}.mlp_t.down_proj.weight": "network.{}.mixer.down.weight",
    "L_level.layers.{}.mlp.gate_up_proj.weight": "network.{}.mlp.gate_up.weight",
    "L_level.layers.{}.mlp.down_proj.weight": "network.{}.mlp.down.weight",
}


def read_published(file: Path) -> tuple[dict[str, Tensor], Tensor | None]:
    """Weights under our names, and the ID rows (rows, id_size) where the file has them.

    A file that cannot be read, and a tensor whose name is unknown, are ValueErrors naming both.
    """
    tensors = {_strip_prefixes(name): tensor for name, tensor in _read_tensors(file).items()}
    id_rows = tensors.pop(ID_ROWS, None)
    if id_rows is not None and id_rows.ndim != 2:
        raise ValueError(f"{file}: tensor {ID_ROWS} has shape {tuple(id_rows.shape)}; expected (rows, id_size)")
    return {_our_name(name, file): tensor for name, tensor in tensors.items()}, id_rows


def to_published(weights: Mapping[str, Tensor], id_rows: Tensor | None = None) -> dict[str, Tensor]:
    """The inverse of `read_published`: tensors under the published names, with their usual prefix."""
    inverse = {ours: theirs for theirs, ours in NAMES.items()}
    named = {PREFIX + _rename(name, inverse): tensor for name, tensor in weights.items()}
    return named if id_rows is None else named | {PREFIX + ID_ROWS: id_rows}


def infer_config(weights: Mapping[str, Tensor], id_rows: Tensor | None = None, **overrides: Any) -> ModelConfig:
    """The settings that the tensors' shapes tell; `overrides` give the others (heads, cycles, id_slots ...).

    The expansion is the smallest whole one that gives the inner size of the file.
    """
    missing = [name for name in ("token_embedding.weight", "network.0.mlp.down.weight") if name not in weights]
    if missing:
        raise ValueError(f"no tensor {missing[0]}: this is not a TRM checkpoint")
    vocabulary, hidden = weights["token_embedding.weight"].shape
    inferred: dict[str, Any] = {
        "hidden": hidden,
        "vocabulary": vocabulary,
        "layers": 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("network.")),
        "expansion": _expansion(hidden, weights["network.0.mlp.down.weight"].shape[1]),
        "mixer": "mlp" if "network.0.mixer.down.weight" in weights else "attention",
        "id_size": None if id_rows is None else id_rows.shape[1],
    }
    return ModelConfig(**(inferred | overrides))


def check_weights(weights: Mapping[str, Tensor], config: ModelConfig, file: Path) -> None:
    """Every tensor of the model is there, in its shape, and no other; ValueError naming file and tensor."""
    expected = {name: tensor.shape for name, tensor in _empty_model(config).state_dict().items()}
    for name in sorted(expected.keys() | weights.keys()):
        published = _rename(name, {ours: theirs for theirs, ours in NAMES.items()})
        if name not in weights:
            raise ValueError(f"{file}: tensor {published} is missing; is this a whole TRM checkpoint?")
        if name not in expected:
            raise ValueError(f"{file}: tensor {published} has no place in a model of {config.layers} layers")
        if weights[name].shape != expected[name]:
            shapes = f"{tuple(weights[name].shape)}, not {tuple(expected[name])}"
            raise ValueError(f"{file}: tensor {published} has shape {shapes}; check heads, id_slots, board_side")


def _empty_model(config: ModelConfig) -> RecursiveModel:
    with torch.device("meta"):
        return RecursiveModel(config)


def _expansion(hidden: int, inner: int) -> float:
    """The smallest whole expansion whose inner size, a multiple of 256, is the one given."""
    for expansion in range(1, 65):
        if -(-round(expansion * hidden * 2 / 3) // 256) * 256 == inner:
            return float(expansion)
    raise ValueError(f"no expansion of hidden size {hidden} gives the inner size {inner}")


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file}: cannot be read as a checkpoint ({error}); fetch the file again") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{file}: holds something else than named tensors; give the weights file of a checkpoint")
    return tensors


def _strip_prefixes(name: str) -> str:
    return re.sub(r"^(_orig_mod\.|model\.|inner\.)+", "", name)


def _our_name(name: str, file: Path) -> str:
    try:
        return _rename(name, NAMES)
    except KeyError as error:
        raise ValueError(f"{file}: tensor {name} is not part of a TRM; only TRM checkpoints are read") from error


def _rename(name: str, names: Mapping[str, str]) -> str:
    number = re.search(r"\.(\d+)\.", name)
    if number is None:
        return names[name]
    return names[name.replace(number[0], ".{}.", 1)].format(number[1])
