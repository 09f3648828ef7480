"""What a supervision step gives."""

from dataclasses import dataclass, field

from torch import Tensor

from solver.model.recursion import Latents


@dataclass(frozen=True)
class Output:
    """One supervision step: detached latents by name, logits (B, C, V), halting and continue logits (B,).

    halt_B: of the halting head; where halting is "random" how sure the least sure cell is (`least_confidence`)
    value_B: where noise is drawn, what share of the cells the value head thinks right; else not a number
    kl_B2: where noise is learnt, in training: nats that the posterior is from the prior, as a cost of the one and of
    the other. judged_BCV: the answer as the prior would have had it, which accuracies and halting are of
    figures: (B,) by name, see ModelConfig.figures
    """

    latents: Latents
    logits_BCV: Tensor
    halt_B: Tensor
    continue_B: Tensor
    value_B: Tensor
    kl_B2: Tensor | None = None
    judged_BCV: Tensor | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)
