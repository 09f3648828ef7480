"""Chance: what noise the latents get, as a function of whose it is and where, and of nothing else.

In: a key for each example. Out: normal numbers for its positions. They are hashes of (key, draw, place, channel), so an
example has the same noise in any batch, chunk or process and on any device, and nothing has to be saved to go on.

Shape letters: B examples, S positions, T positions in use, D hidden.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from solver.model.packing import Padding
from solver.model.recursion import Latents

ON_LATENTS = 1 << 32
"""Draws from here on are those between supervision steps, below are those of the equations."""
IN_BLOCKS = 1 << 33
"""From here on those of dropout (`solver.model.dropout`)."""
ON_STARTS = 1 << 34
"""From here on those of corrupted starts (`solver.training.corrupted_starts`)."""

# Odd constants of splitmix64 (Steele et al. 2014) as signed numbers, and two of its relatives.
_STEP = -7046029254386353131
_PLACE = -4417276706812531889
_CHANNEL = 2870177450012600261
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685


@dataclass(frozen=True)
class NoiseSource:
    """The chance that the examples of a batch are given.

    keys_B: int64, an example's own number
    noise: standard deviation of noise on the latents between supervision steps, after PTRM (arXiv 2605.19943)
    temperature: factor on the width of the noise that equations add; with 0 it is its mean
    dropout: share of what mixers and MLPs give that is left out, in training
    """

    keys_B: Tensor
    noise: float = 0.0
    temperature: float = 1.0
    dropout: float = 0.0

    def at(self, number: int) -> "NoiseSource":
        """The same for another occasion: a supervision step, say."""
        return replace(self, keys_B=_mix(self.keys_B + _wrapped(_STEP * number)))

    def normal(self, draw: int, padding: Padding, size: int) -> Tensor:
        """Standard normal numbers (T, size) of a draw: another for every number given; float32."""
        bits = self._bits(draw, padding, (size + 1) // 2)
        radius = ((_shift(bits, 40) + 1).float() * 2**-24).log().mul(-2).sqrt()  # Box and Muller 1958
        angle = (_shift(bits, 16) & 0xFFFFFF).float() * (2**-24 * 2 * torch.pi)
        return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=-1)[:, :size]

    def uniform(self, draw: int, padding: Padding, size: int) -> Tensor:
        """Two numbers from [0, 1) for each channel, multiples of 2**-24: (2, T, size) of a draw; float32."""
        bits = self._bits(draw, padding, size)
        return torch.stack((_shift(bits, 40).float(), (_shift(bits, 16) & 0xFFFFFF).float())).mul_(2**-24)

    def _bits(self, draw: int, padding: Padding, size: int) -> Tensor:
        """Hashes (T, size) of key, draw, place and channel, int64."""
        places_S = torch.arange(math.prod(padding.shape[1:]), device=self.keys_B.device) * _PLACE
        keys_B = _mix(self.keys_B + _wrapped(_STEP * draw))
        keys_T = padding.pack(_mix(keys_B[:, None] + places_S).view(padding.shape))
        channels = torch.arange(size, device=self.keys_B.device) * _CHANNEL
        return _mix(keys_T[:, None] + channels)

    def disturb(self, latents: Latents) -> Latents:
        """The latents (B, S, D) with `noise` added."""
        if not self.noise:
            return latents
        noisy = {}
        for number, (name, z_BSD) in enumerate(latents.items()):
            padding = Padding((z_BSD.shape[0], z_BSD.shape[1]))
            drawn_BSD = padding.unpack(self.normal(ON_LATENTS + number, padding, z_BSD.shape[-1]))
            noisy[name] = z_BSD + (self.noise * drawn_BSD).to(z_BSD.dtype)
        return noisy


def make_keys(numbers: ArrayLike, device: torch.device | str = "cpu") -> Tensor:
    """A key (B,) for each row of non-negative numbers (B, n): equal rows have equal keys, others hardly ever."""
    keys_B = torch.zeros(len(np.asarray(numbers)), dtype=torch.int64)
    for column in np.atleast_2d(np.asarray(numbers, np.int64)).T:
        keys_B = _mix(keys_B + _STEP + torch.from_numpy(np.ascontiguousarray(column)))
    return keys_B.to(device)


def _mix(x: Tensor) -> Tensor:
    """Every bit of an int64 decides every other: the finish of splitmix64."""
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrapped(number: int) -> int:
    """A number as int64 arithmetic has it."""
    return (number + 2**63) % 2**64 - 2**63
