"""Noise with a learnt mean and width: the stochastic guidance of GRAM (arXiv 2605.19376, section 2).

In an equation with "+ e", the latent becomes u + e, where u is the output of its network and e is Gaussian. At
prediction, e is drawn from a prior conditioned on u. In training, e is drawn from a posterior conditioned on u and the
embedded target. The loss includes the KL divergence of the posterior from the prior.

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
"""Bound on the change of a width's logarithm from its initial value: widths stay within a factor of 2.7."""

FARTHEST = 1.0
"""Bound on the mean. A latent is normalised to size 1 before the noise is added, so an unbounded mean could grow
without limit: the cells' loss rewards large logits, and the KL divergence does not penalise means and widths that grow
together."""


@dataclass(frozen=True)
class Normal:
    """Independent Gaussians (T, D), float32."""

    mean: Tensor
    log_width: Tensor

    def sample(self, drawn: Tensor, temperature: float = 1.0) -> Tensor:
        """Transform standard normal numbers; gradients flow to mean and width (Kingma and Welling 2014)."""
        return self.mean + temperature * self.log_width.exp() * drawn

    def detach(self) -> "Normal":
        """Return the same values without gradient."""
        return Normal(self.mean.detach(), self.log_width.detach())


def kl_divergence(q: Normal, p: Normal) -> Tensor:
    """Return KL(q || p) in nats, summed over channels: (T,)."""
    ratio = 2 * (q.log_width - p.log_width)
    distance = ((q.mean - p.mean) / p.log_width.exp()).square()
    return 0.5 * (ratio.exp() + distance - 1 - ratio).sum(-1)


class GaussianHead(nn.Module):
    """A SwiGLU that outputs the mean and width of each channel, initialised to mean 0 and the width of the config."""

    def __init__(self, inputs: int, config: ModelConfig):
        super().__init__()
        self.mlp = SwiGLU(inputs, config.expansion, config.inner_multiple, 2 * config.hidden, config.hidden)
        nn.init.zeros_(self.mlp.down.weight)
        self.start = math.log(config.noise_width)

    def forward(self, x_TD: Tensor) -> Normal:
        """Map the features of each position (T, inputs) to a distribution (T, D)."""
        mean_TD, raw_TD = self.mlp(x_TD).float().chunk(2, dim=-1)
        return Normal(FARTHEST * torch.tanh(mean_TD / FARTHEST), self.start + REACH * torch.tanh(raw_TD / REACH))


class Guidance(nn.Module):
    """The prior and the posterior that the noise of one latent is drawn from."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.prior = GaussianHead(config.hidden, config)
        self.posterior = GaussianHead(2 * config.hidden, config)


class LearnedNoise:
    """Adds noise to the outputs of networks: a `solver.model.recursion.AddNoise` for one supervision step of a batch.

    Args:
        parts: the Guidance of each noisy latent; empty for naive noise of the given width.
        padding: the padding of the batch.
        chance: the noise source; None uses the prior's mean.
        target_TD: the embedded target, in training.
        always: draw from the posterior in every transition, not only in those with gradient.
        answer: the latent that the heads read.
        width: the width of naive noise.

    Attributes:
        kl_T2: after the step, the KL summed over the transitions that carry gradient. It is there twice: with gradient
            for the prior only, and for the posterior only.
        foreseen_TD: the last answer with noise from the prior in place of the posterior's. The halting and value heads
            learn from it, because at prediction every answer is drawn from the prior.
        widths: root mean squares (T,) of the widths of prior and posterior in the last transition with gradient.
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
        self.prior_answer_TD: Tensor | None = None
        self.widths: dict[str, Tensor] = {}

    def __call__(self, latent: str, u_TD: Tensor) -> Tensor:
        """Return u + e for the named latent."""
        normal_TD, temperature = self._draw(u_TD)
        if not self.parts:
            return u_TD + (temperature * self.width * normal_TD).to(u_TD.dtype)
        guidance = self.parts[latent]
        prior = guidance.prior(u_TD)
        from_prior_TD = u_TD + prior.sample(normal_TD, temperature).to(u_TD.dtype)
        has_gradient = torch.is_grad_enabled()
        if self.target_TD is None or not (has_gradient or self.always):
            return from_prior_TD
        posterior = guidance.posterior(torch.cat((u_TD, self.target_TD), dim=-1))
        if has_gradient:
            self._add_kl(posterior, prior)
            self.widths = {"prior_width": _rms(prior), "posterior_width": _rms(posterior)}
        if latent == self.answer:
            self.prior_answer_TD = from_prior_TD
        return u_TD + posterior.sample(normal_TD, temperature).to(u_TD.dtype)

    def _draw(self, u_TD: Tensor) -> tuple[Tensor, float]:
        """Return standard normal numbers of the shape of u, different in each transition, and the temperature."""
        if self.chance is None or self.chance.temperature == 0:
            return torch.zeros_like(u_TD, dtype=torch.float32), 0.0
        self.draws += 1
        return self.chance.normal(self.draws, self.padding, u_TD.shape[-1]), self.chance.temperature

    def _add_kl(self, q: Normal, p: Normal) -> None:
        # The two copies have equal values; the loss weighs their gradients separately (`EvidenceConfig.kl_balance`).
        kl_T2 = torch.stack((kl_divergence(q.detach(), p), kl_divergence(q, p.detach())), dim=-1)
        self.kl_T2 = kl_T2 if self.kl_T2 is None else self.kl_T2 + kl_T2


def _rms(normal: Normal) -> Tensor:
    """Return the root mean square of the widths at each position, (T,)."""
    return (2 * normal.log_width.detach()).exp().mean(-1).sqrt()
