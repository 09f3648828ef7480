"""The recursion: two latents refined in turn by one network, only the last cycle with gradient.

In: a network (a function of one tensor), the latents, the embedded input. Out: the new latents.

Every tensor has one row per position and D columns; the shape before that is the network's business.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Latents:
    """The state between supervision steps: z_h, the answer so far, and z_l, the reasoning behind it."""

    z_h: Tensor
    z_l: Tensor


def cycle(network: Network, latents: Latents, x: Tensor, l_cycles: int) -> Latents:
    """z_l = network(z_l + (z_h + x)), l_cycles times, then z_h = network(z_h + z_l) (TRM, figure 3)."""
    context = latents.z_h + x
    z_l = latents.z_l
    for _ in range(l_cycles):
        z_l = network(z_l + context)
    return Latents(network(latents.z_h + z_l), z_l)


def recurse(network: Network, latents: Latents, x: Tensor, h_cycles: int, l_cycles: int) -> Latents:
    """h_cycles cycles; gradients flow through the last one only."""
    with torch.no_grad():
        for _ in range(h_cycles - 1):
            latents = cycle(network, latents, x, l_cycles)
    return cycle(network, latents, x, l_cycles)
