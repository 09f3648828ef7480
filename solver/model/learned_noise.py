"""Noise with a learnt mean and width: the stochastic guidance of GRAM (arXiv 2605.19376, section 2).

Where an equation says "+ e", the latent becomes u + e with u what its network gave and e Gaussian. At prediction e
comes from a prior that sees u. In training it comes from a posterior that sees u and the embedded target, and what the
posterior knows more than the prior is the KL divergence, which the loss charges.

Shape letters: B examples, T positions in use, D hidden.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from solver.model.config import ModelConfig
from solver.model.layers import SwiGLU
from solver.model.noise import NoiseSource
from solver.model.packing import Padding

REACH = 1.0
"""How far the logarithm of a width can go from where it starts: widths stay within a factor of 2.7."""

FARTHEST = 1.0
"""The largest mean. Latents are normalised to size 1 but for what is added to them: were a mean free, it would grow
without end, since the cells' loss rewards large logits and the KL divergence does not mind means and widths that grow
together."""


@dataclass(frozen=True)
class Normal:
    """Independent Gaussians (T, D), float32."""

    mean: Tensor
    log_width: Tensor

    def sample(self, drawn: Tensor, temperature: float = 1.0) -> Tensor:
        """From standard normal numbers; gradients flow to mean and width (Kingma and Welling 2014)."""
        return self.mean + temperature * self.log_width.exp() * drawn

    def detach(self) -> "Normal":
        """The same values, as constants."""
        return Normal(self.mean.detach(), self.log_width.detach())


def kl_divergence(q: Normal, p: Normal) -> Tensor:
    """KL(q || p) in nats, summed over channels: (T,)."""
    ratio = 2 * (q.log_width - p.log_width)
    distance = ((q.mean - p.mean) / p.log_width.exp()).square()
    return 0.5 * (ratio.exp() + distance - 1 - ratio).sum(-1)


class GaussianHead(nn.Module):
    """Mean and width of each channel: a SwiGLU that starts at mean 0 and the width of the config."""

    def __init__(self, inputs: int, config: ModelConfig):
        super().__init__()
        self.mlp = SwiGLU(inputs, config.expansion, config.inner_multiple, 2 * config.hidden, config.hidden)
        nn.init.zeros_(self.mlp.down.weight)
        self.start = math.log(config.noise_width)

    def forward(self, x_TD: Tensor) -> Normal:
        """From what is known at each position."""
        mean_TD, raw_TD = self.mlp(x_TD).float().chunk(2, dim=-1)
        return Normal(FARTHEST * torch.tanh(mean_TD / FARTHEST), self.start + REACH * torch.tanh(raw_TD / REACH))


class Guidance(nn.Module):
    """What the noise of one latent is drawn from."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.prior = GaussianHead(config.hidden, config)
        self.posterior = GaussianHead(2 * config.hidden, config)


class Guide:
    """Adds noise to what equations give: a `solver.model.recursion.AddNoise` for one supervision step of a batch.

    Args:
        parts: of each noisy latent its Guidance; empty for naive noise of `width`.
        padding: of the batch.
        chance: None follows the prior's mean.
        target_TD: the embedded target, in training; always: told in every transition, not only in those with gradient.
        answer: the latent that the heads read.

    After the step `kl_T2` is the KL of every transition that carries gradient, twice: as a cost of the prior and of the
    posterior. `foreseen_TD` is the answer as the prior would have had it: what judges answers learns from it, as it
    will have to judge such answers.
    """

    def __init__(
        self,
        parts: Mapping[str, Guidance],
        padding: Padding,
        chance: NoiseSource | None,
        target_TD: Tensor | None,
        always: bool,
        answer: str,
        width: float,
    ):
        self.parts = parts
        self.padding = padding
        self.chance = chance
        self.target_TD = target_TD
        self.always = always
        self.answer = answer
        self.width = width
        self.draws = 0
        self.kl_T2: Tensor | None = None
        self.foreseen_TD: Tensor | None = None
        self.widths: dict[str, Tensor] = {}

    def __call__(self, latent: str, u_TD: Tensor) -> Tensor:
        """u + e, of the answer or another latent."""
        drawn_TD, temperature = self._draw(u_TD)
        if not self.parts:
            return u_TD + (temperature * self.width * drawn_TD).to(u_TD.dtype)
        part = self.parts[latent]
        prior = part.prior(u_TD)
        guess_TD = u_TD + prior.sample(drawn_TD, temperature).to(u_TD.dtype)
        charged = torch.is_grad_enabled()
        if self.target_TD is None or not (charged or self.always):
            return guess_TD
        posterior = part.posterior(torch.cat((u_TD, self.target_TD), dim=-1))
        if charged:
            self._charge(posterior, prior)
            self.widths = {"prior_width": _rms(prior), "posterior_width": _rms(posterior)}
        if latent == self.answer:
            self.foreseen_TD = guess_TD
        return u_TD + posterior.sample(drawn_TD, temperature).to(u_TD.dtype)

    def _draw(self, u_TD: Tensor) -> tuple[Tensor, float]:
        if self.chance is None or self.chance.temperature == 0:
            return torch.zeros_like(u_TD, dtype=torch.float32), 0.0
        self.draws += 1
        return self.chance.normal(self.draws, self.padding, u_TD.shape[-1]), self.chance.temperature

    def _charge(self, q: Normal, p: Normal) -> None:
        kl_T2 = torch.stack((kl_divergence(q.detach(), p), kl_divergence(q, p.detach())), dim=-1)
        self.kl_T2 = kl_T2 if self.kl_T2 is None else self.kl_T2 + kl_T2


def _rms(normal: Normal) -> Tensor:
    """Root mean square of the widths at each position, (T,)."""
    return (2 * normal.log_width.detach()).exp().mean(-1).sqrt()
