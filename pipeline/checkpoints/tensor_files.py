"""Writes safetensors files; a failure of the file system is an OSError with its number and the file's path."""

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, prints the number of a system error; it has no other sign of it."""


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
