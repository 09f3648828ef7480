"""A pretended CUDA device: tensors that say they are on cuda:0, compute on the CPU, and refuse what CUDA refuses.

`with pretended_gpu() as traffic:` lets the project run on the device "cuda" of a machine that has none. A tensor that
is moved or made there is a wrapper of a tensor of the CPU. An operation that mixes both kinds fails as on CUDA. What
makes the host wait for the device is counted, by the project's function that asks for it.

Not pretended: streams, asynchronous errors, limits of memory, kernels and their rounding, compilation.
"""

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import PropertyMock, patch

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves

from pipeline.runtime.distributed import cuda_works
from pipeline.training.batch_source import BatchSource
from tests.helpers.paths import ROOT

CUDA = torch.device("cuda", 0)
MEMORY = 80 * 2**30
"""Bytes of the device; every measurement finds a fifth of them in use."""
PACKAGES = tuple(f"{ROOT / name}/" for name in ("solver", "pipeline", "submissions"))
aten = torch.ops.aten

READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
"""Operations whose result is a number of the host."""
WAITS = READS | {
    *(aten.nonzero.default, aten.masked_select.default, aten.repeat_interleave.Tensor),
    *(aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default),
    *(aten.bincount.default, aten._linalg_check_errors.default),
}
"""Operations after which the host waits, because it needs a number or the size of the result."""
INDEXING = {
    *(aten.index.Tensor, aten._unsafe_index.Tensor, aten._unsafe_index_put.default),
    *(aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default),
}
FACTORIES = {
    *(torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.linspace, torch.eye),
    *(torch.tensor, torch.as_tensor, torch.rand, torch.randn, torch.randint, torch.randperm),
    *(torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like, torch.rand_like, torch.randn_like),
}
COMPOSITES = {torch.nn.functional.one_hot, Tensor.new_tensor}
"""Functions of a tensor that make another on the device that torch itself knows, which for a wrapper is the CPU."""


@dataclass
class Traffic:
    """What passed between host and device, counted by the project's function that asked for it, `file:function`.

    waits: the host waited for the device
    moves: a tensor was moved to the device
    hidden: a tensor on CUDA was indexed by one of the CPU; CUDA allows it, with a copy that the code does not show
    """

    waits: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        for counter in (self.waits, self.moves, self.hidden):
            counter.clear()


_traffic = Traffic()


def caller() -> str:
    """Return `file:function` of the innermost function of the project; a function that is local has its outer name."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGES):
        frame = frame.f_back
    if frame is None:
        return "elsewhere"
    file = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
    return f"{file}:{frame.f_code.co_qualname.split('.<locals>')[0]}"


class PretendedTensor(Tensor):
    """A tensor of the CPU, `inner`, that says it is on cuda:0. Torch's own code sees the wrapper on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, inner: Tensor) -> "PretendedTensor":
        places = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, **places)

    def __init__(self, inner: Tensor):
        super().__init__()
        self.inner = inner

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"PretendedTensor({self.inner!r})"

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return CUDA

    is_cuda = True  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten.copy_.default and not isinstance(args[0], cls):
            _traffic.waits[caller()] += 1
            return args[0].copy_(unwrap(args[1]))
        _count(func, args, kwargs)
        _refuse_mixture(func, args, kwargs)
        result = func(*unwrap(args), **unwrap(kwargs))
        if func in READS:
            return result
        return return_and_correct_aliasing(func, args, kwargs, _wrap(result))


def unwrap(value: Any) -> Any:
    """Return the value with the inner tensor in place of every wrapper; values may be nested."""
    if isinstance(value, PretendedTensor):
        return value.inner
    if isinstance(value, tuple | list):
        return type(value)(unwrap(part) for part in value)
    return {key: unwrap(part) for key, part in value.items()} if isinstance(value, dict) else value


def _wrap(result: Any) -> Any:
    if isinstance(result, Tensor):
        return PretendedTensor(result)
    return type(result)(_wrap(part) for part in result) if isinstance(result, tuple | list) else result


def _count(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Count an operation that waits, or that copies an index to the device."""
    indices = _indices(args) if func in INDEXING else []
    knows_size = kwargs.get("output_size") is not None  # of `repeat_interleave`, which then reads nothing
    if (func in WAITS and not knows_size) or any(index.dtype == torch.bool for index in indices):
        _traffic.waits[caller()] += 1
    if not all(isinstance(index, PretendedTensor) for index in indices):
        _traffic.hidden[caller()] += 1


def _indices(args: Sequence[Any]) -> list[Tensor]:
    return [index for index in args[1] if index is not None]


def _refuse_mixture(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise the RuntimeError of CUDA if a tensor of the CPU takes part that may not.

    A tensor of the CPU may be copied to the device, index a tensor there, or be a number (a tensor without dimensions)
    in an operation on single elements.
    """
    if func is aten.copy_.default:
        return
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    foreign = [tensor for tensor in tensors if not isinstance(tensor, PretendedTensor)]
    if func in INDEXING and isinstance(args[0], PretendedTensor):
        foreign = [tensor for tensor in foreign if all(tensor is not index for index in _indices(args))]
    if torch.Tag.pointwise in func.tags or func in INDEXING or func is aten.fill_.Tensor:
        foreign = [tensor for tensor in foreign if tensor.ndim]
    if foreign and torch._C._current_graph_task_id() != -1:
        # In backward, autograd itself makes zeros for gradients that are not defined, on the device that it knows.
        foreign = [tensor for tensor in foreign if tensor.any()]
    if foreign:
        shapes = [tuple(tensor.shape) for tensor in foreign]
        message = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        raise RuntimeError(f"{message} ({func} in {caller()}, of the CPU: {shapes})")


class _Copy(torch.autograd.Function):
    """A copy from one device to the other; its gradient is copied back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _copy(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _copy(gradients[0])


def _copy(x: Tensor) -> Tensor:
    copied = unwrap(x).clone()
    return copied if isinstance(x, PretendedTensor) else PretendedTensor(copied)


class _PretendedCuda(TorchFunctionMode):
    """Makes torch's functions accept the device "cuda"; moves that the functions `unmoved` ask for are left out."""

    def __init__(self, unmoved: Collection[str]):
        super().__init__()
        self.unmoved = unmoved
        self.special: dict[Any, Callable[..., Any]] = {
            Tensor.to: self._move,
            Tensor.cpu: lambda x, **_: self._move(x, "cpu"),
            Tensor.numpy: self._to_numpy,
            Tensor.tolist: self._to_list,
            Tensor.register_hook: self._register_hook,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.special:
            return self.special[func](*args, **kwargs)
        makes_on_cuda = func in FACTORIES and _is_cuda(kwargs.get("device"))
        if makes_on_cuda or (func in COMPOSITES and isinstance(args[0], PretendedTensor)):
            kwargs |= {"device": "cpu"} if makes_on_cuda else {}
            return PretendedTensor(func(*unwrap(args), **kwargs))
        return func(*args, **kwargs)

    def _move(self, x: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        """Stand in for `Tensor.to`."""
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype)
        words = [arg for arg in args if not isinstance(arg, bool)]
        kwargs.pop("non_blocking", None)
        device, dtype, *_ = torch._C._nn._parse_to(*words, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        was_there = isinstance(x, PretendedTensor)
        goes_there = was_there if device is None else _is_cuda(device)
        if goes_there and not was_there:
            place = caller()
            _traffic.moves[place] += 1
            if place not in self.unmoved:
                x = _Copy.apply(x)
                copy = False
        elif was_there and not goes_there:
            _traffic.waits[caller()] += 1
            x = _Copy.apply(x)
            copy = False
        return Tensor.to(x, dtype or x.dtype, copy=copy)

    def _to_numpy(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, PretendedTensor):
            raise TypeError(f"can't convert cuda:0 device type tensor to numpy ({caller()})")
        return Tensor.numpy(x, *args, **kwargs)

    def _to_list(self, x: Tensor) -> Any:
        if not isinstance(x, PretendedTensor):
            return Tensor.tolist(x)
        _traffic.waits[caller()] += 1
        return x.inner.tolist()

    def _register_hook(self, x: Tensor, hook: Callable[[Tensor], Any]) -> Any:
        """Register a hook that runs in this mode, which backward leaves."""

        def run(gradient: Tensor) -> Any:
            with self:
                return hook(gradient)

        return Tensor.register_hook(x, run)


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or (device is not None and torch.device(device).type == "cuda")


@contextmanager
def pretended_gpu(capability: tuple[int, int] = (9, 0), unmoved: Collection[str] = ()) -> Iterator[Traffic]:
    """Pretend within the block that this process has one GPU, and that accelerate has chosen it.

    Args:
        capability: of compute; (7, 5) is a T4, (9, 0) an H100.
        unmoved: functions, as `Traffic` names them, whose moves to the device are left out.

    Yields:
        What passes between host and device.
    """
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "a pretended GPU",
        "get_device_capability": capability,
        "get_device_properties": SimpleNamespace(total_memory=MEMORY),
        "max_memory_allocated": MEMORY // 5,
        "memory_allocated": MEMORY // 6,
        "memory_reserved": MEMORY // 5,
        "mem_get_info": (MEMORY - MEMORY // 5, MEMORY),
        **dict.fromkeys(("reset_peak_memory_stats", "synchronize", "empty_cache")),
    }
    _traffic.clear()
    cuda_works.cache_clear()
    with ExitStack() as stack:
        stack.callback(cuda_works.cache_clear)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter becomes a wrapper when it moves
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, lambda *_, answer=answer: answer))
        stack.enter_context(patch("pipeline.runtime.distributed.Accelerator", _accelerator_of_the_cpu))
        stack.enter_context(patch.object(Accelerator, "device", PropertyMock(return_value=CUDA)))
        # The pretence holds in one thread, and there are no streams.
        stack.enter_context(patch("pipeline.training.trainer.BatchSource", _draw_when_asked))
        stack.enter_context(_PretendedCuda(unmoved))
        yield _traffic


def _draw_when_asked(draw: Any, sampler: Any, device: torch.device, ahead: bool) -> BatchSource:
    return BatchSource(draw, sampler, device, ahead=False)


def _accelerator_of_the_cpu(**options: Any) -> Accelerator:
    options["cpu"] = True
    return Accelerator(**options)
