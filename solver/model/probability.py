"""What logits say: log-probabilities of tokens, as the loss that a model is trained by has them, and confidence.

Shape letters: B examples, C cells, V vocabulary, K tokens asked for.
"""

import torch
from torch import Tensor

from solver.model.config import LossName

MASKED = -1e8
"""Logits below are of tokens that cannot be."""
SUREST = 1e-12
"""Probabilities stay so far from 0 and 1 where their logit is asked for."""


def log_probabilities(logits: Tensor, tokens: Tensor, kind: LossName) -> Tensor:
    """The log-probability of each token asked for.

    logits: (..., V); tokens: int64 (..., K), K tokens of each place; shape of `tokens` comes out, for "stablemax" in
    float64 (`log_stablemax`), for "softmax" in the precision of the logits, float32 at least.
    """
    if kind == "stablemax":
        return log_stablemax(logits, tokens)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.log_softmax(-1).gather(-1, tokens)


def log_stablemax(logits: Tensor, tokens: Tensor) -> Tensor:
    """log(s(logit of the token) / sum of s), float64 (Prieto et al. 2025).

    logits: (..., V); tokens: (..., K), K tokens of each place; shape of `tokens` comes out. s(x) is x + 1 for x >= 0
    and 1/(1 - x) below, both linear where softmax has exp.
    """
    logits = logits.double()
    weights = torch.where(logits < 0, 1 / (1 - logits + 1e-30), logits + 1)
    return weights.gather(-1, tokens).log() - weights.sum(-1, keepdim=True).log()


@torch.no_grad()
def least_confidence(logits_BCV: Tensor, labels_BC: Tensor, used_BC: Tensor, kind: LossName) -> Tensor:
    """How sure an answer is of its least sure cell, as the logit of a probability: (B,), precision of the logits.

    Of each cell counts its likeliest token (SE-RRM), among the labelled cells of an example, or where it has none, as
    at prediction, among those in use. labels_BC: int64, 0 where unlabelled; used_BC: bool.
    """
    labelled_BC = labels_BC != 0
    counted_BC = torch.where(labelled_BC.any(1, keepdim=True), labelled_BC, used_BC)
    best_BC = log_probabilities(logits_BCV, logits_BCV.argmax(-1, keepdim=True), kind)[..., 0]
    least_B = best_BC.double().exp().masked_fill(~counted_BC, 1).amin(1)
    return least_B.logit(SUREST).to(torch.promote_types(logits_BCV.dtype, torch.float32))
