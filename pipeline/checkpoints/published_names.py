"""Translates tensor names of the published TRM and HRM to ours, and back."""

import re
from collections.abc import Iterable, Mapping

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


def name_table(hrm: bool) -> dict[str, str]:
    """Return {published name: our name}, with {} in place of a block's number."""
    levels = HRM_LEVELS if hrm else LEVELS
    blocks = {
        f"{level}.layers.{{}}.{published_name}": f"{network}.{{}}.{name}"
        for level, network in levels.items()
        for published_name, name in BLOCK_NAMES.items()
    }
    return NAMES | blocks


def inverse_names(weights: Iterable[str]) -> dict[str, str]:
    """Return {our name: published name} for the model that has these weights, under our names."""
    return {name: published_name for published_name, name in name_table(is_hrm(weights)).items()}


def is_hrm(weights: Iterable[str]) -> bool:
    """Return whether these weights, under our names, are an HRM's."""
    return any(name.startswith("network_h.") for name in weights)


def rename(name: str, names: Mapping[str, str]) -> str:
    """Return the name that a table (`name_table`) gives to `name`; KeyError if it is not in the table."""
    number = re.search(r"\.([0-9]{1,6})\.", name)
    if number is None:
        return names[name]
    return names[name.replace(number[0], ".{}.", 1)].format(number[1])
