"""Finds a model's tensors in what a published checkpoint file holds, and checks them one by one.

Training programs wrap the tensors: in dictionaries ("model", "state_dict"), and in prefixes of their names ("module.",
"_orig_mod.", "model.inner."). A tensor is recognised by the end of its full name, whatever comes before; tensors with
the same beginning are one model. Where a file has a model and its moving average, the average is taken.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from augment.errors import UserError

MARK = "embed_tokens.embedding_weight"
"""A tensor that every published model has."""
OWN_NAME = re.compile(
    r"(?:^|\.)([A-Z]_level\..+|(?:H_init|L_init|embed_tokens\.\w+|lm_head\.\w+|q_head\.\w+|puzzle_emb\.\w+)\Z)",
    re.DOTALL,
)
"""The end of a full name: a tensor's own name. Any text may be before it."""
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGED = re.compile(r"(?:^|[._])(?:ema|average|averaged|shadow|swa)(?:[._]|$)", re.IGNORECASE)
OPTIMIZER = "optim"
COUNTER = "n_averaged"
"""What torch's AveragedModel keeps beside the weights."""
MOST_LEVELS = 6
FIX = "give the file that training saved with the model's weights"
FLOAT = "save the weights as float32, float16 or bfloat16"
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass
class PublishedTensors:
    """The tensors of one model.

    Attributes:
        tensors: by their own published names: plain tensors of finite numbers, each with memory of its own.
        remarks: lines for the user: what was chosen, and what was left out.
    """

    tensors: dict[str, Tensor]
    remarks: list[str]


@dataclass
class _Group:
    """The tensors whose full names begin alike: those with a published name, and the full names of others."""

    known: dict[str, Tensor] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def select_tensors(content: Any, file: Path) -> PublishedTensors:
    """Return the tensors of the only model, or of its moving average, in what was read from `file`.

    Raises:
        UserError: naming the file: it has no model or several, or a tensor that cannot be a model's.
    """
    groups, outside = _group(content, file)
    plain, averaged = _choose(groups, content, file)
    chosen = [*plain, *averaged]
    tensors: dict[str, Tensor] = {}
    for prefix in chosen:
        # A moving average may leave out what is not trained by gradients; the model beside it has these tensors.
        tensors |= groups[prefix].known
        for name in groups[prefix].unknown:
            raise UserError(f"{file}: tensor {name} is part of neither a TRM nor an HRM", "only these are read")
    outside += [prefix + name for prefix in groups if prefix not in chosen for name in groups[prefix].known]
    remarks = []
    if averaged:
        beside = f", not those in {_describe(plain[0])}" if plain else ""
        remarks.append(f"{file}: the averaged weights in {_describe(averaged[0])} are taken{beside}")
    if outside:
        remarks.append(f"{file}: {len(outside):,} tensors outside the model are left out, such as {outside[0]}")
    return PublishedTensors(_with_own_memory(tensors, file), remarks)


def _choose(groups: Mapping[str, _Group], content: Any, file: Path) -> tuple[list[str], list[str]]:
    """Return the beginnings of names of the model and of its moving average: one at most of each, one at least."""
    models = [prefix for prefix, group in groups.items() if MARK in group.known]
    if not models and len(groups) == 1:
        models = list(groups)  # parts of a model, such as its gradients
    if not models:
        raise UserError(f"{file} has no tensors of a TRM or an HRM: it has {_describe_content(content)}", FIX)
    averaged = [prefix for prefix in models if AVERAGED.search(prefix)]
    plain = [prefix for prefix in models if prefix not in averaged]
    if max(len(averaged), len(plain)) > 1:
        names = ", ".join(sorted(map(_describe, models)))
        fix = "save one of them alone, with torch.save, and give that file"
        raise UserError(f"{file} has the tensors of {len(models)} models: {names}", fix)
    return plain, averaged


def _group(content: Any, file: Path) -> tuple[dict[str, _Group], list[str]]:
    """Group the tensors by the beginning of their full names, which is what comes before their own.

    Returns:
        The groups by this beginning, and the full names of the tensors that are in none of them.
    """
    groups: dict[str, _Group] = {}
    others = []
    for name, tensor in _flatten(content):
        short = WRAPPERS.sub("", name)
        match = OWN_NAME.search(short)
        if match is None:
            others.append(short)
            continue
        group = groups.setdefault(short[: match.start(1)], _Group())
        if match[1] in group.known:
            raise UserError(f"{file} has tensor {short} twice, with and without a wrapper's prefix", FIX)
        group.known[match[1]] = tensor
    outside = []
    for name in others:
        inside = [prefix for prefix in groups if name.startswith(prefix)]
        if inside:
            groups[max(inside, key=len)].unknown.append(name)
        else:
            outside.append(name)
    return groups, outside


def _flatten(content: Any, prefix: str = "", level: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dictionaries with their full names; those of optimizers are left out."""
    if not isinstance(content, Mapping) or level > MOST_LEVELS:
        return
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Tensor):
            if key != COUNTER:
                yield name, value
        elif not str(key).startswith(OPTIMIZER):
            yield from _flatten(value, f"{name}.", level + 1)


def _describe(prefix: str) -> str:
    return f"'{prefix.rstrip('.')}'" if prefix else "the top level"


def _describe_content(content: Any, most: int = 6) -> str:
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    names = [str(key)[:60] for key in list(content)[:most]]
    rest = f" and {len(content) - most} more" if len(content) > most else ""
    return f"the keys {', '.join(names)}{rest}" if names else "an empty dictionary"


def _with_own_memory(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Check each tensor, and copy those that share memory with others."""
    checked = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, file)
        tensor = tensor.detach()
        storage = tensor.untyped_storage()
        shared = storage.data_ptr() in places or storage.nbytes() != tensor.numel() * tensor.element_size()
        places.add(storage.data_ptr())
        checked[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
    return checked


def _check_tensor(name: str, tensor: Tensor, file: Path) -> None:
    """Check that a tensor has finite numbers, and as many as its shape says."""
    where = f"{file}: tensor {name}"
    if tensor.is_meta or tensor.layout != torch.strided or tensor.dtype not in DTYPES:
        kind = f"{tensor.dtype} in layout {tensor.layout}".replace("torch.", "")
        raise UserError(f"{where} has values of type {kind}, not plain floating-point numbers", FLOAT)
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        # A tensor with a stride of 0 repeats its values; written out, it could fill any memory.
        raise UserError(f"{where} of shape {tuple(tensor.shape)} repeats fewer values than its shape says", FIX)
    if not _is_finite(tensor):
        raise UserError(f"{where} has values that are NaN or infinite", "give an earlier checkpoint")


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    least, largest = torch.aminmax(tensor.detach())  # a NaN among the values makes both of them NaN
    return bool(torch.isfinite(least) and torch.isfinite(largest))
