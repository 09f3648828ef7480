"""Tables that were made to fill the memory are refused before they are unpacked; tables of every writer are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augment.errors import DamagedError
from augment.schema import read_table

SCHEMA = pa.schema([pa.field("number", pa.int64()), pa.field("lists", pa.list_(pa.struct({"cells": pa.binary()})))])
MIB = 2**20


POOLS: list[pa.MemoryPool] = []
"""Pools of tests, which must stay as long as an array that was made in them."""


@contextmanager
def own_pool() -> Iterator[pa.MemoryPool]:
    """A memory pool that measures what is allocated within the block alone."""
    usual = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(usual))
    pa.set_memory_pool(POOLS[-1])
    yield POOLS[-1]
    pa.set_memory_pool(usual)


def make_table(values: list[bytes]) -> pa.Table:
    """Return a table with two values in each row."""
    lists = pa.ListArray.from_arrays(
        pa.array(range(0, len(values) + 1, 2), pa.int32()), pa.StructArray.from_arrays([pa.array(values)], ["cells"])
    )
    return pa.table([pa.array(range(len(lists)), pa.int64()), lists], schema=SCHEMA)


def refuse(file: Path, schema: pa.Schema = SCHEMA) -> str:
    with pytest.raises(DamagedError) as error:
        read_table(file, schema, "make it again")
    message = str(error.value)
    assert message.startswith(str(file))
    assert message.endswith("; make it again")
    assert len(message.splitlines()) == 1
    return message


def replace_in_footer(file: Path, old: int, new: int) -> None:
    """Replace a number wherever it is in the totals at the end of a file."""
    content = file.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    assert varint(old) in footer
    file.write_bytes(content[: -8 - length] + footer.replace(varint(old), varint(new, len(varint(old)))) + content[-8:])


def varint(number: int, length: int = 1) -> bytes:
    """Encode a number as Thrift does, in `length` bytes at least."""
    digits = [2 * number >> shift & 127 for shift in range(0, max(7 * length, (2 * number).bit_length()), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False, "write_statistics": False},
        {"data_page_version": "2.0"},
        {"row_group_size": 30, "data_page_size": 64, "write_batch_size": 4},
        {"dictionary_pagesize_limit": 128, "write_page_checksum": True, "write_page_index": True},
    ],
)
def test_tables_of_every_writer_are_read(tmp_path: Path, compression: str, options: dict[str, Any]) -> None:
    table = make_table([bytes([number % 90, *range(number % 7)]) for number in range(200)])
    pq.write_table(table, tmp_path / "t", compression=compression, **options)
    assert read_table(tmp_path / "t", SCHEMA, "fix", 100).equals(table)


def test_a_table_without_rows_is_read(tmp_path: Path) -> None:
    pq.write_table(make_table([]), tmp_path / "t")
    assert read_table(tmp_path / "t", SCHEMA, "fix", 0).num_rows == 0


def test_a_value_that_a_dictionary_repeats_is_refused_before_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t"
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([bytes(MIB)]))
    pq.write_table(pa.table({"cells": repeated}), file, compression="zstd", store_schema=False)
    assert file.stat().st_size < 2000
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=500 * MIB))
    with own_pool() as pool:
        message = refuse(file, pa.schema({"cells": pa.binary()}))
    assert "it unpacks to 1.0 GiB, but 0.5 GiB of memory are free" in message
    assert pool.max_memory() < 20 * MIB


def test_short_values_beside_a_long_one_are_read_where_their_sum_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table([bytes(MIB), *(bytes([number % 2]) for number in range(999))])
    pq.write_table(table, tmp_path / "t")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * MIB))
    assert read_table(tmp_path / "t", SCHEMA, "fix").equals(table)


def test_nested_values_that_a_dictionary_repeats_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(make_table([bytes(MIB)] * 20), tmp_path / "t")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * MIB))
    assert "it unpacks to 0.0 GiB" in refuse(tmp_path / "t")


def test_a_page_that_is_larger_than_the_total_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "t"
    pq.write_table(make_table([bytes(8 * MIB), b""]), file, compression="zstd", use_dictionary=False)
    size = pq.ParquetFile(file).metadata.row_group(0).column(1).total_uncompressed_size
    replace_in_footer(file, size, 500)
    with own_pool() as pool:
        assert "lists.list.element.cells: a page is larger than the total" in refuse(file)
    assert pool.max_memory() < MIB


def test_more_values_than_the_total_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "t"
    values = pa.array([0] * 3_000_000, pa.int64())
    lists = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    table = pa.table({"lists": lists})
    pq.write_table(table, file)
    replace_in_footer(file, len(values), 2)
    assert "lists.list.element: its pages have 3,000,000 values, not 2" in refuse(file, table.schema)


def test_an_encoding_that_repeats_bytes_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}}
    table = pa.table({"a": [bytes(1000)] * 1000})
    pq.write_table(table, tmp_path / "t", **options)
    assert "a: a page is of an unknown kind or encoding" in refuse(tmp_path / "t", table.schema)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 30,
        b"\x15\x02" * 15,
        b"\x1c" * 30,
        b"\x15" + b"\xff" * 30,
        b"\x18\xff\xff\x7f",
        b"\x19\x1c",
        b"\x15\x00\x11\x15",
        b"\x15\x00\x15\x02\x1c\x00",
    ],
)
def test_a_page_header_that_is_not_valid_is_refused(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "t"
    pq.write_table(make_table([b"1"] * 100), file)
    content = bytearray(file.read_bytes())
    content[4 : 4 + len(header)] = header
    file.write_bytes(content)
    assert "page" in refuse(file)
