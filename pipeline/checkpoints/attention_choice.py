"""Chooses the attention kernel of a model on its device: what works, and of FlashAttention 2 and 3 what is faster.

Shape letters: B examples, S positions, T positions in use, H heads, K head size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
import torch.nn.attention
from torch import Tensor

from augment.errors import UserError
from pipeline.checkpoints.differences import largest_difference
from pipeline.runtime.console import Console
from pipeline.runtime.system_errors import first_line
from solver.model.model import RecursiveModel
from solver.model.packing import Layout, make_layout, varlen_attn
from solver.training.device_memory import ran_out_of_memory

LARGEST_DIFFERENCE = 0.03
"""Largest accepted difference of a kernel from another in half precision, relative to the largest value."""
SHORT = np.array([3, 5])
"""Rows of the examples on which it is tried whether a kernel works."""
REALISTIC = np.repeat(np.arange(10, 31) ** 2 + 16, 5)
"""Rows of the examples on which kernels are timed: 105 boards from 10 x 10 to 30 x 30 with 16 ID slots, 47,530 rows."""
SECONDS = 0.2
"""Each kernel is repeated for so long."""
GAIN = 0.95
"""FlashAttention 3 is used if it takes at most this part of the time of 2: a tie must not be decided by chance."""
HOPPER = (9, 0)
"""Capability from which FlashAttention 3 is tried; that of torch 2.13 refuses all but 9.x when it is called."""

Kernel = tuple[int, int, torch.dtype, str]
"""What a measurement depends on: heads, head size, data type, device."""
_measured: dict[Kernel, tuple[bool, str]] = {}


def choose_attention(
    name: Literal["auto", "varlen", "padded"], model: RecursiveModel, device: torch.device, run: Console | None = None
) -> str:
    """Set whether the model uses torch's varlen kernel, and which FlashAttention this process uses.

    Args:
        name: the setting `train.attention`.
        model: on its device and in its precision; `varlen` is changed.
        device: where it computes.
        run: where it is reported that a card lacks a kernel which it should have.

    Returns:
        A description of the choice for the log.

    Raises:
        UserError: if "varlen" is requested and does not work here.
        RuntimeError: if memory runs out, which says nothing about a kernel.
    """
    _use_flash_2()
    model.varlen = choose_varlen(name, model, device)
    if run and not model.varlen and name == "auto" and _should_have_varlen(model, device):
        run.warn(
            f"variable-length attention of torch {torch.__version__} does not work here: batches are padded instead"
        )
    if not model.varlen:
        return "padded attention"
    said = choose_flash(model.config.heads, _head_size(model), model.precision, device)
    return f"varlen attention ({said})" if said else "varlen attention"


def choose_varlen(name: Literal["auto", "varlen", "padded"], model: RecursiveModel, device: torch.device) -> bool:
    """Return whether to use torch's varlen attention kernel.

    "auto" uses it if it is available and agrees with padded attention (`varlen_works`).

    Raises:
        UserError: if "varlen" is requested and does not work here.
    """
    if name == "padded" or not _attends_over_positions(model):
        return False
    works = varlen_works(model.config.heads, _head_size(model), model.precision, device)
    if name == "varlen" and not works:
        raise UserError(
            f"train.attention=varlen: torch {torch.__version__} does not support it in {model.precision} on {device}",
            "set train.attention=auto",
        )
    return works


def _attends_over_positions(model: RecursiveModel) -> bool:
    """Return whether the model has attention over positions: a symbol axis has attention of its own, an MLP none."""
    return model.config.mixer == "attention" and not model.config.symbols


def _head_size(model: RecursiveModel) -> int:
    return model.config.hidden // model.config.heads


def _should_have_varlen(model: RecursiveModel, device: torch.device) -> bool:
    """Return whether torch documents its varlen kernel for such a device and model: half precision from 8.0 on."""
    if varlen_attn is None or not on_cuda(device) or not _attends_over_positions(model):
        return False
    is_half = model.precision in (torch.bfloat16, torch.float16)
    head_size = _head_size(model)
    return is_half and head_size % 8 == 0 and head_size <= 256 and torch.cuda.get_device_capability(device) >= (8, 0)


def on_cuda(device: torch.device) -> bool:
    """Return whether the device is an NVIDIA (or ROCm) GPU."""
    return device.type == "cuda"


def varlen_works(heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether torch's varlen kernel agrees with padded attention on two short examples, forward and backward.

    Raises:
        RuntimeError: if memory runs out.
    """
    if varlen_attn is None or not on_cuda(device) or dtype not in (torch.bfloat16, torch.float16):
        return False
    inputs = _draw_inputs(SHORT, heads, head_size, dtype, device)
    varlen, padded = (_make_layout(SHORT, head_size, is_varlen, device) for is_varlen in (True, False))
    try:
        results = _run(varlen, *inputs)
        return largest_difference(results, _run(padded, *inputs)) < LARGEST_DIFFERENCE
    except Exception as error:  # of any class, as those of a compiler
        if ran_out_of_memory(error):
            raise
        return False


def choose_flash(heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> str:
    """Use FlashAttention 3 in this process from now on if it is installed, agrees with 2 and is faster; else 2.

    Both are timed once a process for each kind of kernel. Each of several processes chooses by its own measurement.

    Returns:
        The choice and its reason, "" on a device that has no choice.

    Raises:
        RuntimeError: if memory runs out.
    """
    _use_flash_2()
    if not on_cuda(device) or torch.cuda.get_device_capability(device) < HOPPER:
        return ""
    kernel = heads, head_size, dtype, str(device)
    if kernel not in _measured:
        _measured[kernel] = _compare_flash(heads, head_size, dtype, device)
    is_faster, said = _measured[kernel]
    if is_faster:
        _use_flash_3()
    return said


def forget_measurements() -> None:
    """Forget all measurements, so that every kernel is timed again, and use FlashAttention 2."""
    _measured.clear()
    _use_flash_2()


def _compare_flash(heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> tuple[bool, str]:
    """Return whether FlashAttention 3 is to be used, and the choice with its reason."""
    layout = _make_layout(REALISTIC, head_size, True, device)
    inputs = _draw_inputs(REALISTIC, heads, head_size, dtype, device)
    try:
        with flash_attention_3():
            results, seconds = _run(layout, *inputs), median_seconds(lambda: _run(layout, *inputs), SECONDS)
    except Exception as error:  # of any class: libraries for another torch, CUDA or card
        if ran_out_of_memory(error):
            raise
        return False, f"FlashAttention 2; 3 does not work: {first_line(error)}"
    difference = largest_difference(results, _run(layout, *inputs))
    if not difference < LARGEST_DIFFERENCE:
        return False, f"FlashAttention 2; the results of 3 differ by {difference:.0%}"
    seconds_2 = median_seconds(lambda: _run(layout, *inputs), SECONDS)
    ratio = f"3 takes {seconds / seconds_2:.0%} of the time of 2"
    if seconds > GAIN * seconds_2:
        return False, f"FlashAttention 2; {ratio}"
    return True, f"FlashAttention 3; {ratio}"


@contextmanager
def flash_attention_3() -> Iterator[None]:
    """Use FlashAttention 3 within the block.

    Raises:
        RuntimeError: if this torch cannot use it, or it is not installed.
    """
    _use_flash_3()
    try:
        yield
    finally:
        _use_flash_2()


def _use_flash_3() -> None:
    """Put FlashAttention 3 under torch's flash attention, for the whole process; RuntimeError if it cannot be."""
    activate = getattr(torch.nn.attention, "activate_flash_attention_impl", None)
    if activate is None:
        raise RuntimeError("torch before 2.11")
    try:
        activate("FA3")
    except Exception as error:  # what the import of a library raises that was built for another torch
        raise RuntimeError(f"not installed ({first_line(error)})") from error


def _use_flash_2() -> None:
    """Take back what `_use_flash_3` did, if it was called."""
    current = getattr(torch.nn.attention, "current_flash_attention_impl", None)
    if current is not None and current() is not None:
        torch.nn.attention.restore_flash_attention_impl()


def median_seconds(work: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call, repeated for `seconds`; the timer waits for the current device."""
    from torch.utils.benchmark import Timer  # takes a tenth of a second, which is for nothing without a GPU

    return Timer("work()", globals={"work": work}).blocked_autorange(min_run_time=seconds).median


def _make_layout(lengths_B: np.ndarray, head_size: int, varlen: bool, device: torch.device) -> Layout:
    """Return the layout of examples with so many positions, in this order."""
    places_S = np.arange(lengths_B.max())
    positions_BS = torch.from_numpy(np.where(places_S < lengths_B[:, None], places_S, -1)).to(device)
    angles = torch.ones(len(places_S), head_size, device=device)
    return make_layout(positions_BS, np.arange(len(lengths_B)), angles, angles, varlen)


def _draw_inputs(
    lengths_B: np.ndarray, heads: int, head_size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw queries and keys (T, 2, H, K), values (T, H, K) and a gradient of the output (T, H, K)."""
    # A generator of its own: the trial must not change the random numbers of the run.
    generator = torch.Generator().manual_seed(0)
    shapes = (2, heads, head_size), (heads, head_size), (heads, head_size)
    qk, v, gradient = (torch.randn(lengths_B.sum(), *shape, generator=generator).to(device, dtype) for shape in shapes)
    return qk.requires_grad_(), v.requires_grad_(), gradient


def _run(layout: Layout, qk_TNHK: Tensor, v_THK: Tensor, gradient_THK: Tensor) -> tuple[Tensor, ...]:
    """Run attention forward and backward: its output (T, H, K) and the gradients of both inputs, in their shapes."""
    with torch.enable_grad():
        mixed_THK = layout.attend(qk_TNHK, v_THK)
        return mixed_THK.detach(), *torch.autograd.grad(mixed_THK, (qk_TNHK, v_THK), gradient_THK)
