"""Small checkpoints under the published tensor names."""

import torch
from torch import Tensor

ROWS = 6
HIDDEN = 32


def published_tensors(prefix: str = "model.inner.", networks: tuple[str, ...] = ("L_level",)) -> dict[str, Tensor]:
    """A model of one layer, 2 heads and 6 ID rows; with "H_level" too it is an HRM."""
    generator = torch.Generator().manual_seed(7)
    shapes = {
        "H_init": (HIDDEN,),
        "L_init": (HIDDEN,),
        "embed_tokens.embedding_weight": (12, HIDDEN),
        "lm_head.weight": (12, HIDDEN),
        "q_head.weight": (2, HIDDEN),
        "q_head.bias": (2,),
        "puzzle_emb.weights": (ROWS, HIDDEN),
    }
    for network in networks:
        block = f"{network}.layers.0"
        shapes |= {
            f"{block}.self_attn.qkv_proj.weight": (3 * HIDDEN, HIDDEN),
            f"{block}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{block}.mlp.gate_up_proj.weight": (512, HIDDEN),
            f"{block}.mlp.down_proj.weight": (HIDDEN, 256),
        }
    return {prefix + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
