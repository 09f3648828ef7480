"""Log-probabilities of tokens and the confidence of a prediction, from logits.

The probabilities are those of the loss that the model is trained with (stablemax or softmax).

Shape letters: B examples, C cells, V vocabulary, K tokens queried at each place.
"""

import torch
from torch import Tensor

from solver.model.config import LossName

MASKED = -1e8
"""A logit below this value marks a token that is masked out."""
SUREST = 1e-12
"""Probabilities are clamped to this distance from 0 and 1 before their logit is computed."""


def log_probabilities(logits: Tensor, tokens: Tensor, kind: LossName) -> Tensor:
    """Return the log-probability of each queried token.

    Args:
        logits: (..., V).
        tokens: int64 (..., K), K tokens at each place.
        kind: the loss that defines the probabilities.

    Returns:
        The shape of `tokens`: with "stablemax" float64 (`log_stablemax`), with "softmax" the precision of the logits,
        but at least float32.
    """
    if kind == "stablemax":
        return log_stablemax(logits, tokens)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.log_softmax(-1).gather(-1, tokens)


def log_stablemax(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log(s(logit of the token) / sum of s over all tokens), float64 (Prieto et al. 2025).

    s replaces the exponential of softmax: s(x) is x + 1 for x >= 0 and 1/(1 - x) below.

    Args:
        logits: (..., V).
        tokens: (..., K), K tokens at each place.

    Returns:
        The shape of `tokens`.
    """
    logits = logits.double()
    weights = torch.where(logits < 0, 1 / (1 - logits + 1e-30), logits + 1)
    return weights.gather(-1, tokens).log() - weights.sum(-1, keepdim=True).log()


@torch.no_grad()
def least_confidence(logits_BCV: Tensor, labels_BC: Tensor, used_BC: Tensor, kind: LossName) -> Tensor:
    """Return the confidence of the least confident cell of each prediction, as the logit of a probability: (B,).

    A cell's confidence is the probability of its most likely token (SE-RRM). The minimum is over the labelled cells of
    an example. An example without labels, as at prediction, uses all cells in use.

    Args:
        logits_BCV: the logits; the result has their precision, but at least float32.
        labels_BC: int64, 0 where unlabelled.
        used_BC: bool, the cells in use.
        kind: the loss that defines the probabilities.
    """
    labelled_BC = labels_BC != 0
    counted_BC = torch.where(labelled_BC.any(1, keepdim=True), labelled_BC, used_BC)
    best_BC = log_probabilities(logits_BCV, logits_BCV.argmax(-1, keepdim=True), kind)[..., 0]
    least_B = best_BC.double().exp().masked_fill(~counted_BC, 1).amin(1)
    return least_B.logit(SUREST).to(torch.promote_types(logits_BCV.dtype, torch.float32))
