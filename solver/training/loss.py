"""The training loss: cross-entropy of the cells (stablemax or softmax) and the halting logit's binary cross-entropy.

In: a step's output and the labels of the data in the slots. Out: sums over examples, before 1/batch.

Shape letters: B examples, C cells, V vocabulary, K tokens asked for.
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
    """What the loss is made of; the defaults are those published.

    kind: cross-entropy by stablemax or softmax; smoothing: share of the target that is spread over all tokens
    halting: weight of the loss of the halting logit, and of the continue logit's
    """

    kind: LossName = "stablemax"
    smoothing: float = 0.0
    halting: float = 0.5


PUBLISHED = LossConfig()


@dataclass(frozen=True)
class Losses:
    """Sums over the examples of a batch; everything but `total` is detached.

    cells: of the answer that knew the target, where noise is learnt; see EvidenceConfig.untold for the other's share
    total: cells + weight x (halting + continuing) + 0.5 x value + the weighted kl, to be divided by the global batch;
        float64, with softmax float32 at least
    continuing: of the continue logit, 0 where it has no target; value: of the value head, 0 where there is none
    kl: nats per labelled cell that the posterior of learnt noise is from its prior, 0 where none is learnt
    exact_B: all labelled cells right; correct_B and labelled_B: cells right and cells labelled
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
    """Minus the log-probability (`log_stablemax`) of the label, float64, shape of `labels`."""
    return -log_stablemax(logits, labels[..., None])[..., 0]


def cross_entropy(logits: Tensor, labels: Tensor, config: LossConfig = PUBLISHED) -> Tensor:
    """Of the target, which is the label but for `config.smoothing`; shape of `labels`, precision of the probabilities.

    logits: (..., V). With smoothing e the target is 1 - e on the label and e spread evenly over the tokens of the place
    whose logits are not masked, the label among them (Szegedy et al. 2016, section 7).
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
    """The loss of one supervision step; labels are 0 where a cell is unlabelled.

    continue_target_B: what the continue logit learns, where it learns anything
        (`solver.training.deep_supervision.continue_target`).
    kl_weight: of the KL at this training step; with 1 (and no free bits) cells + kl is the bound on the evidence
    (GRAM, eq. 14), in nats per labelled cell.

    Each example's cell loss is the mean over its labelled cells. Its halting target is "as many cells are
    right as are labelled", so an example without labels has no cell loss and, as published, the target 1.
    """
    labelled_BC = labels_BC != 0
    labelled_B = labelled_BC.sum(-1)
    judged_BCV = output.logits_BCV.detach() if output.judged_BCV is None else output.judged_BCV.detach()
    correct_B = (labelled_BC & (judged_BCV.argmax(-1) == labels_BC)).sum(-1)
    exact_B = correct_B == labelled_B
    cells = charged_cells = _cells(output.logits_BCV, labels_BC, labelled_BC, config)
    if output.judged_BCV is not None and evidence.untold:
        untold = _cells(output.judged_BCV, labels_BC, labelled_BC, config)
        charged_cells = torch.lerp(cells, untold, evidence.untold)
    target_B = exact_B.to(output.halt_B.dtype)
    halting = F.binary_cross_entropy_with_logits(output.halt_B, target_B, reduction="sum")
    continuing = value = charged = kl = torch.zeros_like(halting)
    if continue_target_B is not None:
        continuing = F.binary_cross_entropy_with_logits(output.continue_B, continue_target_B, reduction="sum")
    if not output.value_B.isnan().any():
        share_B = (correct_B / labelled_B.clamp(min=1)).to(output.value_B.dtype)
        value = (output.value_B - share_B).square().sum()
    if output.kl_B2 is not None:
        charged, kl = _kl(output.kl_B2, labelled_B, evidence)
    total = charged_cells + (config.halting * (halting + continuing) + 0.5 * value) + kl_weight * charged
    halting = halting.detach()
    continuing = continuing.detach()
    value = value.detach()
    return Losses(total, cells.detach(), halting, continuing, value, kl.detach(), exact_B, correct_B, labelled_B)


def _cells(logits_BCV: Tensor, labels_BC: Tensor, labelled_BC: Tensor, config: LossConfig) -> Tensor:
    """Sum over examples of the mean over their labelled cells."""
    cell_losses_BC = cross_entropy(logits_BCV, labels_BC, config).masked_fill(~labelled_BC, 0)
    return (cell_losses_BC.sum(-1) / labelled_BC.sum(-1).clamp(min=1)).sum()


def _kl(kl_B2: Tensor, labelled_B: Tensor, evidence: EvidenceConfig) -> tuple[Tensor, Tensor]:
    """Sums over examples: what is charged, and the KL itself, in nats per labelled cell.

    Balanced (Hafner et al. 2021): the value is that of the KL, the gradient is shared out between prior and posterior.
    """
    shares = kl_B2.new_tensor([evidence.kl_balance, 1 - evidence.kl_balance])
    kl_B = (kl_B2 * shares).sum(-1) / labelled_B.clamp(min=1) * (labelled_B > 0)
    return kl_B.clamp(min=evidence.free_bits * math.log(2)).sum(), kl_B.sum()
