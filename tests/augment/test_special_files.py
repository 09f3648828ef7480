"""Special files are refused as inputs."""

import os
from pathlib import Path

import pytest

from augment.errors import UserError
from augment.storage import read_json, refuse_special, unseal


@pytest.mark.parametrize("name", ["fifo", "/dev/zero"])
def test_a_fifo_or_device_is_refused_and_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "fifo":
        os.mkfifo(path)
    for read in (refuse_special, read_json, lambda path: unseal(path, "puzzle set", 1, "")):
        with pytest.raises(UserError, match="FIFO, a device or a socket"):
            read(path)
