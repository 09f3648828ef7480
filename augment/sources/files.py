"""Find and read the files of a source: plain, gzip, or members of a zip archive.

Hidden files and folders (names that begin with a dot) and `__MACOSX` are copies and settings of other programs, so they
are passed over. Links to folders are followed, each folder and each file once.
"""

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, is_zipfile

from augment.errors import UserError
from augment.text_files import find_kind

MAX_UNPACKED = 2**28
"""Bytes that a gzip file or a member of a zip archive may unpack to: 256 MiB. The largest public file has 6 MB."""

MAX_ARCHIVE = 2**32
"""Bytes that all members of a zip archive may unpack to together: 4 GiB."""

_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
_ARCHIVE_FOLDER = "__MACOSX"
_SUFFIXES = (".json", ".json.gz")
METADATA = "metadata.json"
"""RE-ARC's statistics file, which is not a task; it is stored next to the folder of tasks."""
LINES = (".jsonl", ".ndjson")
"""Endings of files with one JSON value a line, perhaps followed by .gz."""


class SourceError(UserError):
    """A source that does not exist or cannot be read; the message names the source, the file and the fix."""


def require_regular(file: Path) -> None:
    """Raise SourceError unless the path is a file, or a link to one: opening a FIFO would wait for its writer.

    Raises:
        OSError: if it does not exist, or its folder cannot be read.
    """
    if kind := find_kind(file):
        raise SourceError(f"{file} is {kind}, and a file is needed", "copy the content to a file and give that file")


def read_file(file: Path) -> bytes:
    """Return the content of a file, unpacked if it is gzip.

    Raises:
        SourceError: if it is no regular file, cannot be read, or unpacks to more than `MAX_UNPACKED` bytes.
    """
    try:
        require_regular(file)
        content = file.read_bytes()
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({error})", "correct or replace the file") from error
    return unpack(content, str(file))


def unpack(content: bytes, label: str) -> bytes:
    """Return the content, unpacked if it is gzip; `label` names the file in messages.

    Raises:
        SourceError: if it is damaged, or unpacks to more than `MAX_UNPACKED` bytes.
    """
    if not content.startswith(_GZIP):
        return content
    try:
        # Counted before anything is kept, so that a small file cannot fill the memory.
        size = 0
        for chunk in _chunks(content):
            size += len(chunk)
            if size > MAX_UNPACKED:
                raise _too_large(label, MAX_UNPACKED)
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{label} cannot be unpacked ({error})", "correct or replace the file") from error


def _chunks(content: bytes) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _too_large(label: str, limit: int) -> SourceError:
    return SourceError(
        f"{label} unpacks to more than {limit // 2**20:,} MiB", "unpack it, and give the unpacked file or folder"
    )


@dataclass(frozen=True)
class SourceFile:
    """A file of a source, on disk or in a zip archive.

    Attributes:
        path: of the file; of a member, the archive's path followed by the member's name.
        archive: the open archive of a member, else None.
        member: the member's name in the archive.
    """

    path: Path
    archive: ZipFile | None = None
    member: str = ""

    @property
    def has_lines(self) -> bool:
        """Whether the file has one JSON value a line, by its name."""
        return self.path.name.removesuffix(".gz").endswith(LINES)

    @property
    def stem(self) -> str:
        """The name without its ending .json, .json.gz, .jsonl ...; for a file with one task, the task ID."""
        name = self.path.name.removesuffix(".gz")
        return name.rpartition(".")[0] or name

    def read(self) -> bytes:
        """Return the content, unpacked.

        Raises:
            SourceError: if it cannot be read, or unpacks to more than `MAX_UNPACKED` bytes.
        """
        if self.archive is None:
            return read_file(self.path)
        info = self.archive.getinfo(self.member)
        if info.file_size > MAX_UNPACKED:
            raise _too_large(str(self.path), MAX_UNPACKED)
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            # Python unpacks the other methods in pieces of any size, so the limit would not hold.
            raise SourceError(f"{self.path} is not stored or deflated", "unpack it, and give the unpacked folder")
        try:
            return unpack(self.archive.read(self.member), str(self.path))
        except (OSError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
            # RuntimeError: the archive is encrypted.
            raise SourceError(f"{self.path} cannot be unpacked ({error})", "correct or replace the archive") from error

    def beside(self, name: str) -> "SourceFile | None":
        """Return the file of this name in the same folder, None if there is none."""
        path = self.path.with_name(name)
        if self.archive is None:
            # A link to nothing and a FIFO are found too, so that reading them is an error.
            return SourceFile(path) if os.path.lexists(path) else None
        member = str(PurePosixPath(self.member).with_name(name))
        return SourceFile(path, self.archive, member) if member in self.archive.namelist() else None


def is_hidden(parts: Iterable[str]) -> bool:
    """Return whether one of these parts of a path is the copy or the settings of another program."""
    return any(part.startswith(".") or part == _ARCHIVE_FOLDER for part in parts)


def find_files(folder: Path, deep: bool) -> list[SourceFile]:
    """Return the JSON files in a folder, sorted by path; with `deep`, those in its subfolders too.

    Raises:
        OSError: if a folder cannot be read.
    """
    # Of several links to one file, the first in this order is used.
    found = sorted(_walk(folder, deep), key=lambda entry: str(entry[0]), reverse=True)
    by_place = {place: path for path, place in found}
    return [SourceFile(path) for path in sorted(by_place.values(), key=str)]


def _walk(folder: Path, deep: bool) -> Iterator[tuple[Path, str]]:
    """Yield the JSON files of a folder and their real paths; a subfolder that several links lead to is entered once."""
    entered = {os.path.realpath(folder)}
    pending = [folder]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        for entry in sorted(os.scandir(current), key=lambda entry: entry.name):
            if is_hidden([entry.name]):
                continue
            place = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
            if entry.is_dir():
                if deep and place not in entered:
                    entered.add(place)
                    pending.append(Path(entry.path))
            elif _is_json(entry.name):
                yield Path(entry.path), place


def _is_json(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and name != METADATA


def is_archive(file: Path) -> bool:
    """Return whether the file is a zip archive."""
    return file.is_file() and is_zipfile(file)


def open_archive(file: Path) -> ZipFile:
    """Open a zip archive.

    Raises:
        SourceError: if it is damaged, or unpacks to more than `MAX_ARCHIVE` bytes.
    """
    try:
        archive = ZipFile(file)
    except (OSError, BadZipFile) as error:
        raise SourceError(f"{file} cannot be read ({error})", "correct or replace the archive") from error
    if sum(info.file_size for info in archive.infolist()) > MAX_ARCHIVE:
        archive.close()
        raise _too_large(str(file), MAX_ARCHIVE)
    return archive


def find_members(file: Path, archive: ZipFile, deep: bool) -> list[SourceFile]:
    """Return the JSON members of an archive as `find_files` does."""
    names = [PurePosixPath(name) for name in dict.fromkeys(archive.namelist()) if not name.endswith("/")]
    chosen = [name for name in names if _is_json(name.name) and not is_hidden(name.parts)]
    return [
        SourceFile(file / name, archive, str(name)) for name in sorted(chosen, key=str) if deep or len(name.parts) == 1
    ]
