"""Compiles a network for a card that is not there, and prints the bytes of every cubin as JSON.

    python -m tests.helpers.cubins 90 bfloat16

It is a process of its own, as it changes torch. Graphs are traced on the CPU and then moved to CUDA, where tensors have
shapes but no values; the card has properties only; kernels are compiled but not loaded. What writes the kernels, and
Triton and ptxas, which compile them, are the real ones. Needs a torch built for CUDA.

Shape letters: T positions in use, D hidden.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, fx
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import compile_fx
from torch._inductor.runtime.triton_compat import GPUTarget, triton
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from solver.model.config import ModelConfig
from solver.model.layers import Block
from solver.model.networks import compile_blocks
from solver.model.packing import Layout, make_layout
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels

CUDA = torch.device("cuda", 0)
CARDS = {75: (40, 1024), 89: (58, 1536), 90: (132, 2048)}
"""By capability: multiprocessors of a T4, an L4 and an H100, and the threads that each multiprocessor holds."""
LENGTHS = np.array([20, 12])
"""Positions of two examples; the compiled code is for any number."""
VARLEN = 80
"""Capability from which attention is torch's variable-length kernel, and a network is one graph."""

Cubins = dict[str, int]
"""Bytes of the cubins of a graph, by kernel and configuration."""
_graphs: list[Cubins] = []


def compile_network(dtype: torch.dtype, varlen: bool) -> list[Cubins]:
    """Return the cubins of each graph of a network of the published size: without gradient, then forward and backward.

    With variable-length attention these are three graphs. Otherwise each of the two parts of a block has three.
    """
    _graphs.clear()
    config = ModelConfig()
    blocks = [Block(config) for _ in range(config.layers)]
    run = compile_blocks(
        blocks, varlen, backend=lambda graph, inputs: compile_fx.compile_fx(graph, inputs, _compile_on_cuda)
    )
    layout = _make_layout(config, varlen)
    x_TD = torch.randn(LENGTHS.sum(), config.hidden, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        run(blocks, x_TD.detach(), layout)
    run(blocks, x_TD, layout).float().sum().backward()
    return _graphs


def _make_layout(config: ModelConfig, varlen: bool) -> Layout:
    places_S = np.arange(LENGTHS.max())
    positions_BS = torch.from_numpy(np.where(places_S < LENGTHS[:, None], places_S, -1))
    cos, sin = torch.randn(2, len(places_S), config.hidden // config.heads)
    return make_layout(positions_BS, LENGTHS, cos, sin, varlen)


@contextmanager
def pretend_card(capability: int) -> Iterator[None]:
    """Tell torch's code generator the properties of a card, and let it compile kernels without loading them."""
    target = GPUTarget("cuda", capability, 32)
    triton.runtime.driver.set_active(SimpleNamespace(get_current_target=lambda: target))  # pyright: ignore[reportAttributeAccessIssue]
    with ExitStack() as stack:
        for name, answer in _answers(capability).items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
            stack.enter_context(patch.object(CudaInterface, name, answer, create=True))
        # `torch.cuda.is_available` stays false: otherwise torch starts CUDA.
        stack.enter_context(patch.object(CudaInterface, "is_available", lambda: True))
        stack.enter_context(patch.object(CachingAutotuner, "precompile", _compile_kernel))
        stack.enter_context(patch("torch._inductor.runtime.triton_helpers.set_driver_to_gpu", lambda: None))
        settings = {"compile_threads": 1, "force_disable_caches": True, "use_static_triton_launcher": False}
        stack.enter_context(torch._inductor.config.patch(settings))  # pyright: ignore[reportAttributeAccessIssue]
        yield


def _answers(capability: int) -> dict[str, Callable[..., Any]]:
    """Return by name what functions of `torch.cuda` say of the card."""
    major, minor = divmod(capability, 10)
    multiprocessors, threads = CARDS[capability]
    card = SimpleNamespace(
        name=f"sm_{capability}",
        major=major,
        minor=minor,
        multi_processor_count=multiprocessors,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=threads,
        max_threads_per_block=1024,
        warp_size=32,
    )
    return {
        "get_device_properties": lambda *_: card,
        "get_device_capability": lambda *_: (major, minor),
        "is_bf16_supported": lambda *_, **__: major >= 8,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
    }


def _compile_kernel(tuner: Any, *_: Any, **__: Any) -> None:
    """Stand in for `CachingAutotuner.precompile`, which loads what it compiles."""
    for config in tuner.configs:
        kernel = tuner._precompile_config(config).kernel
        _graphs[-1][f"{tuner.fn.__name__}, {config}"] = len(kernel.asm["cubin"])


def _compile_on_cuda(graph: fx.GraphModule, inputs: list[Any], **options: Any) -> Any:
    """Stand in for `compile_fx_inner`: compile a copy of the graph for CUDA, and return the graph itself."""
    _graphs.append({})
    mode = next(each.fake_mode for each in inputs if isinstance(each, FakeTensor))
    moved = [_move(each, mode) for each in inputs]
    copy = fx.GraphModule(graph, fx.Graph())
    copy.graph.output(copy.graph.graph_copy(graph.graph, {}))
    for node in copy.graph.nodes:
        if "device" in node.kwargs:
            node.update_kwarg("device", CUDA)
    FakeTensorProp(copy, mode).propagate_dont_convert_inputs(*moved)
    compile_fx.compile_fx_inner(copy, moved, **options)

    def run(boxed: list[Any]) -> Any:
        return graph(*boxed)

    run._boxed_call = True  # pyright: ignore[reportFunctionMemberAccess]
    return run


def _move(each: Any, mode: FakeTensorMode) -> Any:
    """Return a tensor without values on CUDA like the given one; anything else, such as a size, as it is."""
    if not isinstance(each, Tensor):
        return each
    with mode:
        return torch.empty_strided(each.shape, each.stride(), dtype=each.dtype, device=CUDA)


if __name__ == "__main__":
    with pretend_card(int(sys.argv[1])):
        cubins = compile_network(getattr(torch, sys.argv[2]), int(sys.argv[1]) >= VARLEN)
        print(json.dumps(cubins, indent=1))
