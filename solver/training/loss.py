"""The training loss: cross-entropy of the cells (stablemax or softmax) and binary cross-entropy of the halting logit.

`losses` takes the output of a supervision step and the labels, and returns sums over examples, not yet divided by the
batch size.

Shape letters: B examples, C cells, V vocabulary, K tokens queried at each place.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from solver.model.config import EVIDENCE, EvidenceConfig, LossName
from solver.model.output import Output
from solver.model.probability import MASKED, log_probabilities, log_stablemax


@dataclass(frozen=True)
class LossConfig:
    """Settings of the loss; the defaults are the published values.

    kind: the function that makes probabilities from logits, stablemax or softmax
    smoothing: share of the target that is spread over all tokens
    halting: weight of the losses of the halting logit and the continue logit
    """

    kind: LossName = "stablemax"
    smoothing: float = 0.0
    halting: float = 0.5


PUBLISHED = LossConfig()


@dataclass(frozen=True)
class Losses:
    """Sums over the examples of a batch; everything but `total` is detached.

    total: cells + weight x (halting + continuing) + 0.5 x value + the weighted kl, to be divided by the global batch
        size; float64, or with softmax at least float32. With learnt noise its cells part also has the loss of the
        answer drawn from the prior, weighted by EvidenceConfig.prior_share.
    cells: cross-entropy of the cells; with learnt noise that of the answer drawn from the posterior
    halting: loss of the halting logit
    continuing: loss of the continue logit, 0 if it has no target
    value: loss of the value head, 0 if there is none
    kl: KL(posterior || prior) of learnt noise in nats per labelled cell, 0 without learnt noise
    exact_B: bool, whether all labelled cells are right
    correct_B, labelled_B: numbers of right cells and of labelled cells
    """

    total: Tensor
    cells: Tensor
    halting: Tensor
    continuing: Tensor
    value: Tensor
    kl: Tensor
    exact_B: Tensor
    correct_B: Tensor
    labelled_B: Tensor


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the log-probability (`log_stablemax`) of the label, float64, in the shape of `labels`."""
    return -log_stablemax(logits, labels[..., None])[..., 0]


def cross_entropy(logits: Tensor, labels: Tensor, config: LossConfig = PUBLISHED) -> Tensor:
    """Return the cross-entropy with smoothed labels, in the shape of `labels`.

    With smoothing e, the target is 1 - e on the label, plus e spread evenly over the tokens whose logits are not
    masked, including the label (Szegedy et al. 2016, section 7).

    Args:
        logits: (..., V).
        labels: int64 (...).
        config: the kind of probabilities, which determines the precision of the result, and the smoothing.
    """
    label_losses = -log_probabilities(logits, labels[..., None], config.kind)[..., 0]
    if not config.smoothing:
        return label_losses
    tokens = torch.arange(logits.shape[-1], device=logits.device).expand(logits.shape)
    allowed = logits > MASKED
    others = log_probabilities(logits, tokens, config.kind).masked_fill(~allowed, 0)
    return torch.lerp(label_losses, -others.sum(-1) / allowed.sum(-1).clamp(min=1), config.smoothing)


def losses(
    output: Output,
    labels_BC: Tensor,
    continue_target_B: Tensor | None = None,
    evidence: EvidenceConfig = EVIDENCE,
    kl_weight: float = 0.0,
    config: LossConfig = PUBLISHED,
) -> Losses:
    """Compute the loss of one supervision step.

    The cell loss of an example is the mean over its labelled cells. Its halting target is 1 if the number of right
    cells equals the number of labelled cells. An example without labels thus has no cell loss and, as published, the
    halting target 1.

    Args:
        output: the output of the supervision step.
        labels_BC: int64, 0 where a cell is unlabelled.
        continue_target_B: the target of the continue logit (`solver.training.deep_supervision.continue_target`), if it
            has one.
        evidence: the weights of the evidence lower bound.
        kl_weight: weight of the KL at this optimizer step; with 1 (and no free bits) cells + kl is the bound on the
            evidence (GRAM, eq. 14), in nats per labelled cell.
        config: the other settings of the loss.
    """
    labelled_BC = labels_BC != 0
    labelled_B = labelled_BC.sum(-1)
    # Accuracy is that of the prior's answer where there is one: prediction has no posterior.
    judged_BCV = output.logits_BCV if output.prior_logits_BCV is None else output.prior_logits_BCV
    correct_B = (labelled_BC & (judged_BCV.detach().argmax(-1) == labels_BC)).sum(-1)
    exact_B = correct_B == labelled_B
    cells = _cells(output.logits_BCV, labels_BC, labelled_BC, config)
    weighted_cells = cells
    if output.prior_logits_BCV is not None and evidence.prior_share:
        prior_cells = _cells(output.prior_logits_BCV, labels_BC, labelled_BC, config)
        weighted_cells = torch.lerp(cells, prior_cells, evidence.prior_share)
    target_B = exact_B.to(output.halt_B.dtype)
    halting = F.binary_cross_entropy_with_logits(output.halt_B, target_B, reduction="sum")
    continuing = value = penalised_kl = kl = torch.zeros_like(halting)
    if continue_target_B is not None:
        continuing = F.binary_cross_entropy_with_logits(output.continue_B, continue_target_B, reduction="sum")
    share_B = (correct_B / labelled_B.clamp(min=1)).to(output.value_B.dtype)
    # The value is NaN without a value head; to ask whether it is would make the processor wait for a GPU.
    value = (output.value_B - share_B).square().nan_to_num(nan=0.0, posinf=torch.inf).sum()
    if output.kl_B2 is not None:
        penalised_kl, kl = _kl(output.kl_B2, labelled_B, evidence)
    total = weighted_cells + (config.halting * (halting + continuing) + 0.5 * value) + kl_weight * penalised_kl
    halting = halting.detach()
    continuing = continuing.detach()
    value = value.detach()
    return Losses(total, cells.detach(), halting, continuing, value, kl.detach(), exact_B, correct_B, labelled_B)


def _cells(logits_BCV: Tensor, labels_BC: Tensor, labelled_BC: Tensor, config: LossConfig) -> Tensor:
    """Return the sum over examples of the mean loss of their labelled cells."""
    cell_losses_BC = cross_entropy(logits_BCV, labels_BC, config).masked_fill(~labelled_BC, 0)
    return (cell_losses_BC.sum(-1) / labelled_BC.sum(-1).clamp(min=1)).sum()


def _kl(kl_B2: Tensor, labelled_B: Tensor, evidence: EvidenceConfig) -> tuple[Tensor, Tensor]:
    """Return sums over examples of the KL beyond the free bits and of the KL itself, in nats per labelled cell.

    With KL balancing (Hafner et al. 2021), the value is that of the KL, and `kl_balance` divides the gradient between
    prior and posterior.
    """
    shares = kl_B2.new_tensor([evidence.kl_balance, 1 - evidence.kl_balance])
    kl_B = (kl_B2 * shares).sum(-1) / labelled_B.clamp(min=1) * (labelled_B > 0)
    return kl_B.clamp(min=evidence.free_bits * math.log(2)).sum(), kl_B.sum()
