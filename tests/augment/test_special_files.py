"""Special files are refused as inputs."""

import os
from pathlib import Path

import pytest

from augment.errors import UserError
from augment.schema import SealedHeader
from augment.storage import unseal
from augment.text_files import read_json, refuse_special


@pytest.mark.parametrize("name", ["fifo", "/dev/zero"])
def test_a_fifo_or_device_is_refused_and_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "fifo":
        os.mkfifo(path)
    for read in (refuse_special, read_json, lambda path: unseal(path, SealedHeader, "puzzle set", 1, "")):
        with pytest.raises(UserError, match=r"is a FIFO|is a device"):
            read(path)
