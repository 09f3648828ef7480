"""torch.compile on this machine: tried on few positions, done without where it fails, and explained if it ends a run.

Shape letters: C cells, D hidden, T positions in use.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from pipeline.checkpoints.differences import largest_difference
from pipeline.runtime.exit_codes import CompilationError
from pipeline.runtime.system_errors import first_line
from solver.data.batch import Batch
from solver.model.model import RecursiveModel
from solver.model.networks import AnyBlock, cast_weights, compile_blocks, run_blocks
from solver.training.device_memory import ran_out_of_memory

POSITIONS = 64
"""Positions of the trial, at most; a network whose mixer is an MLP needs a whole board."""
LARGEST_DIFFERENCE = 0.1
"""Largest accepted difference of a compiled network from the same network uncompiled, relative to the largest value.

In half precision compiled code rounds less often: in bf16 the difference of a block was 0.01 on a CPU.
"""
DISABLE = "TORCH_COMPILE_DISABLE"
"""Torch's own environment variable: with 1 nothing is compiled."""

Network = tuple[Any, ...]
"""What decides the code that is compiled: names and shapes of weights, numbers of blocks, data type, device."""

_reasons: dict[Network, str | None] = {}
_last_network: Network | None = None


def find_compile_error(model: RecursiveModel) -> str | None:
    """Try torch.compile on a network of the model, forward and backward; return why it fails, None if it works.

    Each network is tried once a process. A network that differs from the one before makes torch forget all compiled
    code: torch counts the graphs of a function over all models, and refuses the ninth. Earlier models can still be
    used; their blocks are then compiled again.

    Args:
        model: on its device and in its precision, with its attention kernel chosen; not changed.

    Raises:
        RuntimeError: if memory runs out, which says nothing about the compiler.
    """
    global _last_network
    if os.environ.get(DISABLE) == "1":
        return f"it is turned off by {DISABLE}=1"
    network = _describe(model)
    if network != _last_network:
        torch.compiler.reset()
    _last_network = network
    if network not in _reasons:
        _reasons[network] = _try_network(model)
    return _reasons[network]


def forget_trials() -> None:
    """Forget all trials, so that every network is tried again."""
    global _last_network
    _last_network = None
    _reasons.clear()


def _describe(model: RecursiveModel) -> Network:
    shapes = tuple((name, *weight.shape) for name, weight in model.blocks[0].named_parameters())
    config = model.config
    layers = tuple(config.layers_of(name) for name in config.recursion.networks)
    kinds = config.heads, config.rms_epsilon, config.dropout > 0, model.precision, model.varlen, str(model.device)
    return (*shapes, *layers, *kinds)


def _try_network(model: RecursiveModel) -> str | None:
    """Return why the compiled first network does not work here, None if it does; nothing stays compiled."""
    layers = model.config.layers_of(model.config.recursion.networks[0])
    results = []
    try:
        for is_compiled in (False, True):
            blocks = deepcopy(model.blocks[:layers])
            run = compile_blocks(blocks, model.varlen) if is_compiled else run_blocks
            results.append(_run_network(model, blocks, run))
    # Compilers raise any exception: without a C compiler, without Python's headers, for a card that is too old.
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {_reason(error)}"
    finally:
        torch.compiler.reset()
    uncompiled, compiled = results
    difference = largest_difference(compiled, uncompiled)
    if difference <= LARGEST_DIFFERENCE:  # false for NaN too
        return None
    return f"its results differ by {difference:.0%} from those of the same network uncompiled"


def _run_network(
    model: RecursiveModel, blocks: Sequence[AnyBlock], run: Callable[..., Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Run blocks of the model on one example, as training does; return three tensors (T, D).

    They are the output without gradient, and the output and the gradient of the input with it.
    """
    config = model.config
    cells = config.cells if config.mixer == "mlp" else min(config.cells, max(1, POSITIONS - config.id_slots))
    cells_BC = torch.arange(cells)[None]
    batch = Batch(torch.ones_like(cells_BC), torch.ones_like(cells_BC), cells_BC, torch.zeros(1, dtype=torch.int64))
    layout = model.layout(batch.to(model.device))
    # A generator of its own: the trial must not change the random numbers of the run.
    noise_TD = torch.randn(len(layout.cos), config.hidden, generator=torch.Generator().manual_seed(0))
    x_TD = noise_TD.to(model.device, model.precision).requires_grad_()
    with torch.no_grad(), cast_weights(blocks, model.precision):
        plain_TD = run(blocks, x_TD.detach(), layout)
    with torch.enable_grad():
        output_TD = run(blocks, x_TD, layout)
        # The sum of squares of the output alone has no gradient: the norm at the end of a block keeps it.
        loss = (output_TD.float() * noise_TD.to(model.device)).square().sum()
        (gradient_TD,) = torch.autograd.grad(loss, x_TD)
    return plain_TD.float(), output_TD.detach().float(), gradient_TD.float()


@contextmanager
def explain_compilation() -> Iterator[None]:
    """Raise a CompilationError in place of an error of torch.compile that the trial did not show.

    Not all such errors are RuntimeErrors: one graph too many is a plain Exception. Lack of memory while a graph is
    compiled is passed on as it is.
    """
    try:
        yield
    except _compiler_errors() as error:
        if ran_out_of_memory(error):
            raise
        raise CompilationError(
            f"torch.compile failed during the run ({_reason(error.__cause__ or error)})",
            f"run the same command again with the environment variable {DISABLE}=1: it resumes from what was saved, "
            "uncompiled, which is slower",
        ) from error


def _reason(error: BaseException) -> str:
    """Return the first line of an error's text, and the second if the first only announces it."""
    line = first_line(error)
    return " ".join(str(error).splitlines()[:2])[:200] if line.endswith(":") else line


def _compiler_errors() -> tuple[type[Exception], ...]:
    """Return the classes of errors of torch.compile; none if its module was not imported, as nothing was compiled."""
    module = sys.modules.get("torch._dynamo.exc")
    names = ("FailOnRecompileLimitHit", "TorchDynamoException")
    return tuple(getattr(module, name) for name in names if hasattr(module, name))
