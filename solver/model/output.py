"""The output of one supervision step."""

from dataclasses import dataclass, field

from torch import Tensor

from solver.model.recursion import Latents


@dataclass(frozen=True)
class Output:
    """Latents, logits and statistics after one supervision step.

    latents: detached latents by name, one row for each position in use, in the order of the examples (R, D)
    logits_BCV: token logits of the cells, read from the answer
    halt_B: logit of the halting head; with "random" halting the confidence of the least confident cell
        (`least_confidence`)
    continue_B: logit of the continue head
    value_B: with noisy equations, the share of correct cells that the value head predicts; otherwise NaN
    kl_B2: in training with learnt noise, KL(posterior || prior) in nats, twice: with gradient for the prior only, then
        for the posterior only
    judged_BCV: with a posterior, the logits of the answer drawn from the prior; accuracies and halting use these
    figures: statistics (B,) by name, see ModelConfig.figures
    """

    latents: Latents
    logits_BCV: Tensor
    halt_B: Tensor
    continue_B: Tensor
    value_B: Tensor
    kl_B2: Tensor | None = None
    prior_logits_BCV: Tensor | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)
