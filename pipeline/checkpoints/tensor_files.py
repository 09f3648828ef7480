"""Reads and writes safetensors files; a failed write is an OSError with its number and the path of the file."""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.runtime.exit_codes import CheckpointError

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, prints the number of a system error; it has no other sign of it."""

FIX = "name another checkpoint, such as RUN/checkpoints/final"
WEIGHTS = ("model", "average", "ids")
"""The files of a checkpoint, without their suffix, that must hold finite floats."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Write contiguous tensors by name to a .safetensors file.

    Raises:
        OSError: if the file cannot be written, for example to a full disk.
    """
    try:
        save_file(tensors, file)
    except SafetensorError as error:
        found = SYSTEM_ERROR.search(str(error))
        if found is None:
            raise
        code = int(found[1])
        raise OSError(code, os.strerror(code), str(file)) from error


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Load the tensors of a .safetensors file by name; raises a CheckpointError if it cannot be read."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error})", FIX) from error


def load_numbers(file: Path, fix: str = FIX) -> dict[str, Tensor]:
    """Load tensors that must be finite floating-point numbers, such as weights; else a CheckpointError with `fix`."""
    tensors = load_tensors(file)
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or not tensor.isfinite().all():
            kind = str(tensor.dtype).removeprefix("torch.")
            what = f"is of type {kind}" if tensor.dtype not in FLOATS else "has values that are not finite"
            raise CheckpointError(f"{file}: {name[:80]!a} {what}; finite 16 to 64-bit floats are needed", fix)
    return tensors
