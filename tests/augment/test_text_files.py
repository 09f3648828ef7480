"""Text files as other programs save them, and paths that are no regular files."""

import os
from pathlib import Path

import pytest

from augment.errors import UserError
from augment.storage import write_file
from augment.text_files import decode_text, read_json

TEXT = '{"größe": [1, 2]}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(TEXT.encode(encoding))
    assert decode_text(file.read_bytes()) == TEXT
    assert read_json(file) == {"größe": [1, 2]}


def test_text_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(TEXT.encode("cp1252"))
    with pytest.raises(UserError, match=r"settings\.json is not valid JSON"):
        read_json(file)


def test_a_fifo_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match=f"{path} is a .*not a file"):
            read_json(path)


def test_a_path_that_is_not_utf_8_is_written_with_backslashes(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_file(file, os.fsdecode(b"caf\xe9") + " größe")
    assert file.read_text(encoding="utf-8") == "caf\\udce9 größe"
