"""Find how much memory a Parquet file takes when it is read, without unpacking it.

A file is unpacked page by page, and only the header in front of a page says how large that becomes. A file made to
fill the memory has page headers that contradict the totals at its end, or one long value that a dictionary repeats
many times. The headers are in Thrift's compact protocol; pyarrow does not give access to them.
"""

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a value in memory; other types have an offset of 4 bytes each."""

# Numbers of fields, page types and encodings: parquet.thrift of the Parquet format.
TYPE = 1
UNCOMPRESSED = 2
COMPRESSED = 3
DICTIONARY_PAGE = 2
VALUES = 1
DATA_PAGES = {0: (5, 2), 3: (8, 4)}
"""By type of page: the field of its own header, and the field of the encoding in that."""
ENCODINGS = (0, 2, 3, 8)
"""PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY. Others can repeat bytes without a dictionary."""
_INTEGERS = (4, 5, 6)
_BINARY = 8
_STRUCT = 12
_LENGTHS = {1: 0, 2: 0, 3: 1, 7: 8}
"""Type -> bytes after its field's header: true, false, a byte, a double."""
_DEPTH = 4
_NOT_VALID = "a page header is not valid"


class PageError(ValueError):
    """The pages of a Parquet file contradict the totals at its end, or are of a kind that no file of ours has."""


def promised_size(metadata: pq.FileMetaData) -> int:
    """Return the bytes that a file's totals promise: of its pages, or of fixed-width values if that is more."""
    return sum(
        max(chunk.total_uncompressed_size, WIDTHS.get(chunk.physical_type, 4) * chunk.num_values)
        for chunk in _chunks(metadata)
    )


def check_pages(file: Path, metadata: pq.FileMetaData) -> dict[str, int]:
    """Compare the headers of all pages with the file's totals.

    Returns:
        The most bytes that the values of each column can take that repeats byte values with a dictionary, by the
        column's path. The length of the longest value is not known, so this can be far too much.

    Raises:
        PageError: if a chunk of a column has more pages, bytes or values than its totals say.
    """
    sizes: dict[str, int] = {}
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for chunk in _chunks(metadata):
            dictionary = _check_chunk(content, chunk)
            if dictionary and chunk.physical_type not in WIDTHS:
                path = chunk.path_in_schema
                sizes[path] = sizes.get(path, 0) + dictionary * chunk.num_values
    return sizes


def decoded_size(file: Path, columns: Collection[str]) -> int:
    """Return the bytes of all values of columns with dictionaries, which are not repeated in memory for this."""
    with pq.ParquetFile(file, memory_map=True, read_dictionary=list(columns)) as parquet:
        table = parquet.read(columns=list(columns))
    leaves = [leaf for column in table.columns for chunk in column.chunks for leaf in _leaves(chunk)]
    lengths = [pc.call_function("binary_length", [leaf.dictionary]).take(leaf.indices) for leaf in leaves]
    return sum(pc.call_function("sum", [length]).as_py() or 0 for length in lengths)


def _leaves(array: Any) -> Iterator[pa.DictionaryArray]:
    """Return the arrays with dictionaries in an array of any type."""
    if pa.types.is_list(array.type):
        yield from _leaves(array.flatten())
    elif pa.types.is_struct(array.type):
        for part in array.flatten():
            yield from _leaves(part)
    elif pa.types.is_dictionary(array.type):
        yield array


def _chunks(metadata: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return (group.column(number) for group in groups for number in range(group.num_columns))


def _check_chunk(content: Any, chunk: pq.ColumnChunkMetaData) -> int:
    """Check the pages of one chunk of a column; returns the uncompressed bytes of its dictionary."""
    if not chunk.num_values:  # pyarrow reads no page then, and states no right place of one
        return 0
    place = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < place:
        place = chunk.dictionary_page_offset
    end = place + chunk.total_compressed_size
    if not 0 <= place <= end <= len(content):
        raise PageError(f"{chunk.path_in_schema}: its pages are not in the file")
    size = values = dictionary = 0
    while place < end:
        try:
            header, after = _read_struct(content, place)
        except IndexError:
            raise PageError(_NOT_VALID) from None
        kind, unpacked, packed = (_number(header, name) for name in (TYPE, UNCOMPRESSED, COMPRESSED))
        size += after - place + unpacked
        place = after + packed
        if unpacked < 0 or packed < 0 or place > end or size > chunk.total_uncompressed_size:
            raise PageError(f"{chunk.path_in_schema}: a page is larger than the total of the pages")
        if kind == DICTIONARY_PAGE:
            dictionary += unpacked
        else:
            values += _count_values(header, kind, chunk.path_in_schema)
    if values != chunk.num_values:
        raise PageError(f"{chunk.path_in_schema}: its pages have {values:,} values, not {chunk.num_values:,}")
    return dictionary


def _count_values(header: dict[int, Any], kind: int, path: str) -> int:
    """Return the number of values of a data page; PageError for another page, or an encoding that we do not write."""
    part, encoding = DATA_PAGES.get(kind, (0, 0))
    about = header.get(part)
    if not isinstance(about, dict) or _number(about, encoding) not in ENCODINGS or _number(about, VALUES) < 0:
        raise PageError(f"{path}: a page is of an unknown kind or encoding")
    return _number(about, VALUES)


def _number(fields: dict[int, Any], name: int) -> int:
    """Return an integer among the fields of a header; -1 if it is missing or of another type."""
    value = fields.get(name)
    return value if isinstance(value, int) else -1


# Places in the content go in and out of the functions below, which read 50 headers for a million puzzles.


def _read_struct(content: Any, place: int, depth: int = 1) -> tuple[dict[int, Any], int]:
    """Read a Thrift struct (compact protocol).

    Args:
        content: bytes or a memory map.
        place: where the struct starts.
        depth: the number of structs around the values.

    Returns:
        The values of its fields by number, None for others than integers and structs; and the place after it.

    Raises:
        PageError: if this is no struct of a page header.
        IndexError: if the content ends before it does.
    """
    values: dict[int, Any] = {}
    number = 0
    while kind := content[place]:
        last = number
        place += 1
        if kind >> 4:
            number += kind >> 4
        else:
            number, place = _read_integer(content, place)
        # Thrift lets a field come twice, and then readers do not agree on its value.
        if number <= last or depth > _DEPTH:
            raise PageError(_NOT_VALID)
        kind &= 15
        if kind in _INTEGERS:
            values[number], place = _read_integer(content, place)
        elif kind == _STRUCT:
            values[number], place = _read_struct(content, place, depth + 1)
        else:
            values[number] = None
            place = _skip(content, place, kind)
    return values, place + 1


def _skip(content: Any, place: int, kind: int) -> int:
    """Return the place after a value that is not needed."""
    if kind == _BINARY:
        length, place = _read_varint(content, place)
        return place + length
    if kind not in _LENGTHS:
        raise PageError(_NOT_VALID)
    return place + _LENGTHS[kind]


def _read_integer(content: Any, place: int) -> tuple[int, int]:
    number, place = _read_varint(content, place)
    if number >= 2**32:
        # pyarrow would cut it to 32 bits, and read another number than this module.
        raise PageError(_NOT_VALID)
    return (number >> 1) ^ -(number & 1), place


def _read_varint(content: Any, place: int) -> tuple[int, int]:
    """Read an unsigned number of at most 63 bits."""
    byte = content[place]
    value = byte & 127
    shift = 7
    while byte >= 128:
        if shift >= 63:
            raise PageError(_NOT_VALID)
        place += 1
        byte = content[place]
        value |= (byte & 127) << shift
        shift += 7
    return value, place + 1
