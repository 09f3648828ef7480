"""Networks as functions of one tensor: their blocks in order, compiled, with weights cast once.

Shape letters: T positions in use, D hidden.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from solver.model.layers import Attention, Block, Linear
from solver.model.symbol_axis import SymbolBlock

AnyBlock = Block | SymbolBlock


def run_blocks(
    blocks: Sequence[AnyBlock], z_TD: Tensor, layout: Any, factors: Sequence[Tensor | None] | None = None
) -> Tensor:
    """Apply blocks to (T, D) in order.

    Args:
        blocks: the blocks of a network.
        z_TD: the input.
        layout: of the batch.
        factors: dropout factors of each block; None: no dropout.
    """
    for number, block in enumerate(blocks):
        z_TD = block(z_TD, layout, None if factors is None else factors[number])
    return z_TD


def compile_blocks(blocks: Sequence[AnyBlock], varlen: bool, **options: Any) -> Callable[..., Tensor]:
    """Compile blocks (`torch.compile`), and return what applies them in order, as `run_blocks` does.

    With variable-length attention, which is one operation whatever the batch, all blocks of a network are one graph:
    that saves passes over memory between them. Otherwise the parts of each block are compiled in place.

    Args:
        blocks: the blocks of all networks.
        varlen: whether their attention is of that kind.
        options: of `torch.compile`.
    """
    if varlen and all(isinstance(block, Block) and isinstance(block.mixer, Attention) for block in blocks):
        # The number of positions differs between batches, and torch gives up after a few compilations of one function.
        options = {"dynamic": True, "fullgraph": True} | options
        return torch.compile(run_blocks, **options)
    for block in blocks:
        block.compile_parts(**options)
    return run_blocks


@contextmanager
def cast_weights(blocks: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Cast the weights of all linear layers of the blocks once; in this context they serve passes without gradient.

    A pass with gradient casts them itself, so that the gradients of all passes are summed in the weights' own dtype.
    """
    layers = [layer for block in blocks for layer in block.modules() if isinstance(layer, Linear)]
    layers = [layer for layer in layers if layer.weight.dtype != dtype]
    try:
        for layer in layers:
            layer.cast = layer.weight.detach().to(dtype)
        yield
    finally:
        for layer in layers:
            layer.cast = None
