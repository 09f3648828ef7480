"""Finds and reads a checkpoint file that was made elsewhere, and never runs anything that it contains.

Files are told apart by their first bytes, not by their name: .safetensors, torch's archive, and torch's old format are
read. What is often found in place of a checkpoint (a Git LFS pointer, a web page, an empty or cut file, a pickle of
other objects) is refused with a message of its own.
"""

import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from augment.errors import UserError

AGAIN = "download it again"
SAFER = "save its tensors alone where it was made (safetensors, or torch.save of a state_dict), and give that file"
LFS = b"version https://git-lfs"
FIRST_BYTES = 1024
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", "")
"""Names under which weights are published; the published training code gives its files no ending."""
ARCHIVES = {b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd", b"BZh": "bzip2"}
TENSOR_PARTS = re.compile(r"torch\._utils\._rebuild_\w+|torch\.\w+Storage|torch\.storage\.\w+|collections\.OrderedDict")
"""Objects from which torch builds tensors again."""


def find_weights(path: Path) -> Path:
    """Return the file with the weights: `path` itself, or the only one in this folder.

    Raises:
        UserError: naming the folder, if it has no such file or several.
    """
    if not path.is_dir():
        return path
    if (path / "checkpoint.json").exists():
        raise UserError(f"{path} is a checkpoint of this project already", "use it as it is, without convert")
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    candidates = [file for file in files if _may_hold_weights(file)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UserError(f"{path} has several files of weights: {_list_names(candidates)}", "give one of these files")
    content = f"it has {_list_names(files)}" if files else "it is empty"
    raise UserError(f"{path} has no file of weights ({', '.join(ENDINGS[:-1])}): {content}", "give the file itself")


def read_object(file: Path) -> Any:
    """Read the tensors of a file as it holds them: a dictionary of tensors, or torch's object around them.

    Raises:
        UserError: naming the file, what it is if not a checkpoint, and what to do.
    """
    refuse_stand_in(file)
    first = read_first_bytes(file)
    if _is_safetensors(first):
        return _read_safetensors(file)
    if first.startswith(b"PK"):
        _check_archive(file)
    elif not first.startswith(b"\x80"):
        raise _refuse_other(file, first)
    return _read_torch(file)


def _may_hold_weights(file: Path) -> bool:
    """Return whether a file of a folder is offered: by its name, and without an ending by its first bytes."""
    if file.suffix not in ENDINGS or not file.is_file():
        return False
    return file.suffix != "" or _starts_as_weights(read_first_bytes(file, may_be_empty=True))


def _starts_as_weights(first: bytes) -> bool:
    return first.startswith((b"PK", b"\x80", LFS)) or _is_safetensors(first)


def _list_names(files: list[Path], most: int = 8) -> str:
    rest = f" and {len(files) - most} more" if len(files) > most else ""
    return ", ".join(file.name for file in files[:most]) + rest


def read_first_bytes(file: Path, may_be_empty: bool = False) -> bytes:
    """Return the first bytes of a regular file; UserError, naming it, if it is none, or empty though it may not be."""
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            # Opening a FIFO would wait for a writer, and a device may never end.
            raise UserError(f"{file} is not a file but a {_describe_mode(mode)}", "give a file or its folder")
        with file.open("rb") as stream:
            first = stream.read(FIRST_BYTES)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist", "check the path") from None
    except OSError as error:
        raise UserError(f"{file} cannot be opened ({error.strerror})", "check the path and its permissions") from error
    if not first and not may_be_empty:
        raise UserError(f"{file} is empty (0 bytes)", AGAIN)
    return first


def _describe_mode(mode: int) -> str:
    kinds = {stat.S_ISDIR: "folder", stat.S_ISFIFO: "named pipe", stat.S_ISSOCK: "socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "device")


def _is_safetensors(first: bytes) -> bool:
    """Return whether these bytes begin as .safetensors: the header's length in 8 bytes, and the header's brace."""
    return first[8:9] == b"{" and int.from_bytes(first[:8], "little") < 2**32


def refuse_stand_in(file: Path) -> None:
    """Raise a UserError if this is not a file with content of its own: a Git LFS pointer, a web page, a named pipe."""
    first = read_first_bytes(file)
    if first.startswith(LFS):
        fix = (
            "fetch the content with `git lfs install && git lfs pull` in its clone, or download the file from its page"
        )
        raise UserError(f"{file} is a Git LFS pointer, not the content that it stands for", fix)
    if _skip_blanks(first).startswith(b"<"):
        fix = f"sign in or accept the terms there, and {AGAIN} by its direct link"
        raise UserError(f"{file} is a web page, not the file that was asked for", fix)


def _skip_blanks(first: bytes) -> bytes:
    return first.removeprefix(b"\xef\xbb\xbf").lstrip()


def _refuse_other(file: Path, first: bytes) -> UserError:
    """Return the error for a file that is no checkpoint."""
    for start, kind in ARCHIVES.items():
        if first.startswith(start):
            return UserError(f"{file} is a {kind} archive", "unpack it, and give the file of weights inside")
    if objects := list_objects(file):
        return _refuse_objects(file, objects)
    text = _skip_blanks(first)
    if len(first) < FIRST_BYTES and text.isascii():
        fix = AGAIN if not text.startswith(b"{") else f"it may be a server's error: {AGAIN}"
        return UserError(f"{file} is a text of {len(first)} bytes, not a checkpoint", fix)
    return UserError(f"{file} is neither a .safetensors file nor one saved by torch", f"{AGAIN}, or give another file")


def _refuse_objects(file: Path, objects: list[str]) -> UserError:
    names = ", ".join(objects[:4])
    return UserError(f"{file} has Python objects beside its tensors ({names}), which could run code", SAFER)


def _read_safetensors(file: Path) -> Any:
    _check_memory(file)
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        # The library compares the header with the file's size before it takes memory for any tensor.
        raise UserError(f"{file} is cut short or damaged ({error})", AGAIN) from error


def _check_archive(file: Path) -> None:
    """Check that a zip archive is one of torch and no larger than the file: torch stores tensors uncompressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{file} is cut short or damaged ({error})", AGAIN) from error
    if not any(Path(entry.filename).name == "data.pkl" for entry in entries):
        names = ", ".join(entry.filename for entry in entries[:4])
        raise UserError(f"{file} is a zip archive that torch did not save; it has {names}", "unpack it first")
    if sum(entry.file_size for entry in entries) > file.stat().st_size:
        raise UserError(f"{file} unpacks to more than its own size, which no file saved by torch does", AGAIN)


def _read_torch(file: Path) -> Any:
    _check_memory(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # if the bytes are not a pickle, the unpickler may raise any exception
        # torch's own text is left out: it advises to load without protection.
        if objects := list_objects(file):
            raise _refuse_objects(file, objects) from error
        raise UserError(f"{file} is cut short or damaged", AGAIN) from error


def _check_memory(file: Path) -> None:
    size = file.stat().st_size
    available = psutil.virtual_memory().available
    if size > available:
        sizes = f"{size / 2**30:,.1f} GiB, and {available / 2**30:,.1f} GiB of memory are free"
        raise UserError(f"{file} has {sizes}", "use a machine with more memory")


def list_objects(file: Path) -> list[str]:
    """List what a pickle, or torch's archive, would import other than parts of tensors; nothing is loaded."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(name for name in archive.namelist() if Path(name).name == "data.pkl")
                with archive.open(name) as stream:
                    names = list(_imports(stream))  # pyright: ignore[reportArgumentType]
        else:
            with file.open("rb") as stream:
                names = list(_imports(stream))
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError, RuntimeError):
        return []  # a damaged archive, such as one whose names are not text
    return [name for name in dict.fromkeys(names) if not TENSOR_PARTS.fullmatch(name)]


def _imports(stream: BinaryIO) -> Iterator[str]:
    """Yield the dotted names that the pickles of a stream import, up to the first byte that is not of a pickle."""
    texts: list[str] = []
    while True:
        try:
            for code, argument, _ in pickletools.genops(stream):
                if code.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
        except Exception:  # pickletools raises whatever its parser meets in bytes that are not a pickle
            return
