"""Kernels for the CPU under torch's variable-length attention, whose own kernels need CUDA.

Importing this module registers them for the whole process, as torch cannot take a kernel back. The project never
calls the operation on the CPU by itself (`pipeline.checkpoints.attention_choice`), so other tests do not change.
What is tested with them is torch's own: the signature, the shapes that compilation assumes, and the autograd formula.

Shape letters: T rows of all examples, H heads, K head size, L rows of one example.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

varlen = pytest.importorskip("torch.nn.attention.varlen", reason="torch before 2.10 has no variable-length attention")


def split_examples(ends: Tensor, *tensors_THK: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield (H, L, K) of every tensor for each example; `ends` is what `solver.model.packing.Layout.ends` is."""
    lengths = ends.diff().tolist()
    return zip(*(tensor.transpose(0, 1).split(lengths, dim=1) for tensor in tensors_THK), strict=True)


def join_examples(parts_HLK: list[Tensor]) -> Tensor:
    """Invert `split_examples` for one tensor."""
    return torch.cat(parts_HLK, dim=1).transpose(0, 1).contiguous()


@varlen._varlen_attn.register_kernel("cpu")
def attend(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, *_: Any, **__: Any) -> tuple[Tensor, ...]:
    """Return the mixed values (T, H, K), and in place of log-sum-exp (H, T) and random state zeros."""
    mixed = [scaled_dot_product_attention(q, k, v) for q, k, v in split_examples(ends, query, key, value)]
    rows, heads = query.shape[:2]
    return join_examples(mixed), torch.zeros(heads, rows), torch.zeros(2, dtype=torch.uint64)


@varlen._varlen_attn_backward.register_kernel("cpu")
def attend_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, ends: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    """Return the gradients of query, key and value, each (T, H, K), by the chain rule written out."""
    gradients = [_backward(*parts) for parts in split_examples(ends, query, key, value, gradient)]
    return tuple(join_examples(list(parts)) for parts in zip(*gradients, strict=True))


def _backward(q_HLK: Tensor, k_HLK: Tensor, v_HLK: Tensor, gradient_HLK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = q_HLK.shape[-1] ** -0.5
    weights_HLL = (q_HLK @ k_HLK.mT * scale).softmax(-1)
    d_weights_HLL = gradient_HLK @ v_HLK.mT
    d_scores_HLL = weights_HLL * (d_weights_HLL - (d_weights_HLL * weights_HLL).sum(-1, keepdim=True)) * scale
    return d_scores_HLL @ k_HLK, d_scores_HLL.mT @ q_HLK, weights_HLL.mT @ gradient_HLK
