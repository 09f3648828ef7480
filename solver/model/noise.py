"""Counter-based random numbers: noise as a pure function of an example's key, the draw, the place and the channel.

Each number is a hash of (key, draw, place, channel). An example therefore gets the same noise in any batch, chunk or
process and on any device, and resuming a run needs no saved generator state.

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
"""First draw number of the noise between supervision steps; lower numbers are those of the equations' noise."""
IN_BLOCKS = 1 << 33
"""First draw number of dropout (`solver.model.dropout`)."""
ON_STARTS = 1 << 34
"""First draw number of corrupted starts (`solver.training.corrupted_starts`)."""

# Odd constants of splitmix64 (Steele et al. 2014) and two of its variants, as signed 64-bit integers.
_STEP = -7046029254386353131
_PLACE = -4417276706812531889
_CHANNEL = 2870177450012600261
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685


@dataclass(frozen=True)
class NoiseSource:
    """The random numbers of the examples of a batch.

    keys_B: int64, the key of each example
    noise: standard deviation of noise on the latents between supervision steps, after PTRM (arXiv 2605.19943)
    temperature: factor on the width of the noise in equations; 0 leaves only its mean
    dropout: in training, the share of the outputs of mixers and MLPs that is set to zero
    """

    keys_B: Tensor
    noise: float = 0.0
    temperature: float = 1.0
    dropout: float = 0.0

    def at(self, number: int) -> "NoiseSource":
        """Return an independent source with the same settings, for example for supervision step `number`."""
        return replace(self, keys_B=_mix(self.keys_B + _wrapped(_STEP * number)))

    def normal(self, draw: int, padding: Padding, size: int) -> Tensor:
        """Return standard normal numbers (T, size), float32; each draw number gives independent ones."""
        bits = self._bits(draw, padding, (size + 1) // 2)
        # One hash gives both uniform numbers of a Box-Muller pair, 24 bits each, the precision of float32.
        radius = ((_shift(bits, 40) + 1).float() * 2**-24).log().mul(-2).sqrt()  # Box and Muller 1958
        angle = (_shift(bits, 16) & 0xFFFFFF).float() * (2**-24 * 2 * torch.pi)
        return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=-1)[:, :size]

    def uniform(self, draw: int, padding: Padding, size: int) -> Tensor:
        """Return two uniform numbers in [0, 1) for each channel, (2, T, size), float32, multiples of 2**-24."""
        bits = self._bits(draw, padding, size)
        return torch.stack((_shift(bits, 40).float(), (_shift(bits, 16) & 0xFFFFFF).float())).mul_(2**-24)

    def _bits(self, draw: int, padding: Padding, size: int) -> Tensor:
        """Return hashes (T, size) of key, draw, place and channel, int64."""
        places_S = torch.arange(math.prod(padding.shape[1:]), device=self.keys_B.device) * _PLACE
        keys_B = _mix(self.keys_B + _wrapped(_STEP * draw))
        keys_T = padding.pack(_mix(keys_B[:, None] + places_S).view(padding.shape))
        channels = torch.arange(size, device=self.keys_B.device) * _CHANNEL
        return _mix(keys_T[:, None] + channels)

    def disturb(self, latents: Latents, rows: Padding) -> Latents:
        """Return the latents with Gaussian noise of standard deviation `noise` added.

        Args:
            latents: one row for each position in use (R, D), by name.
            rows: the mapping between these rows and the positions (B, S).
        """
        if not self.noise:
            return latents
        noisy = {}
        for number, (name, z_RD) in enumerate(latents.items()):
            normal_RD = self.normal(ON_LATENTS + number, rows, z_RD.shape[-1])
            noisy[name] = z_RD + (self.noise * normal_RD).to(z_RD.dtype)
        return noisy


def make_keys(numbers: ArrayLike, device: torch.device | str = "cpu") -> Tensor:
    """Hash each row of non-negative numbers (B, n) to a key, (B,) int64; different rows almost never share a key."""
    keys_B = torch.zeros(len(np.asarray(numbers)), dtype=torch.int64)
    for column in np.atleast_2d(np.asarray(numbers, np.int64)).T:
        keys_B = _mix(keys_B + _STEP + torch.from_numpy(np.ascontiguousarray(column)))
    return keys_B.to(device)


def _mix(x: Tensor) -> Tensor:
    """Hash int64 numbers so that every input bit affects every output bit: the finaliser of splitmix64."""
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift of int64 copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrapped(number: int) -> int:
    """Reduce a number to the int64 range by two's-complement wraparound."""
    return (number + 2**63) % 2**64 - 2**63
