"""Tables are compared with their schema, and with the memory that is free, before they are unpacked."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augment.errors import DamagedError
from augment.schema import Schema, parse_json, read_table

SCHEMA = pa.schema([pa.field("a", pa.int32()), pa.field("b", pa.string())])


def write(folder: Path, table: pa.Table) -> Path:
    pq.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


def test_a_table_of_the_schema_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, pa.table({"a": [1, 2], "b": ["x", "y"]}, schema=SCHEMA))
    assert read_table(file, SCHEMA, "fix", 2).num_rows == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"a": pa.array([1], pa.int32())}), "the table misses 'b'"),
        (pa.table({"a": pa.array([1], pa.int32()), "c": ["x"]}), "misses 'b' and has 'c'"),
        (pa.table({"b": ["x"], "a": pa.array([1], pa.int32())}), "columns in another order"),
        (pa.table({"a": [1], "b": ["x"]}), "a: the type is int64, not int32"),
        (pa.table({"a": pa.array([None], pa.int32()), "b": ["x"]}), "a: a value is null"),
        (pa.table({"a": pa.array([1, 2], pa.int32()), "b": ["x", "y"]}), "it has 2 rows, not 1"),
    ],
)
def test_another_table_is_refused_with_the_column(tmp_path: Path, table: pa.Table, message: str) -> None:
    file = write(tmp_path, table)
    with pytest.raises(DamagedError) as error:
        read_table(file, SCHEMA, "make it again", 1)
    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert str(error.value).endswith("; make it again")


def test_a_table_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 4_000_000
    file = write(tmp_path, pa.table({"a": pa.array([7] * rows, pa.int32()), "b": ["x"] * rows}))
    assert file.stat().st_size < 100_000
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self: pytest.fail("it was read"))
    with pytest.raises(DamagedError, match=r"unpacks to 0\.0 GiB, but 0\.0 GiB of memory are free"):
        read_table(file, SCHEMA, "fix", rows)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table", bytes(100)])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "t.parquet"
    file.write_bytes(content)
    with pytest.raises(DamagedError, match="cannot be read"):
        read_table(file, SCHEMA, "fix")


class Example(Schema):
    number: int
    names: list[str]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"names": []}', "number: Field required"),
        ('{"number": null, "names": []}', "number: Input should be a valid integer"),
        ('{"number": true, "names": []}', "number: Input should be a valid integer"),
        ('{"number": 1.0, "names": []}', "number: Input should be a valid integer"),
        ('{"number": 1, "names": ["a", 2]}', "names.1: Input should be a valid string"),
        ('{"number": 1, "names": [], "more": 0}', "more: Extra inputs are not permitted"),
        ("[]", "the file"),
        ("{", "Invalid JSON"),
        ('{"number": ' + "9" * 5000 + ', "names": []}', "number"),
        ("[" * 10_000, "JSON"),
    ],
)
def test_a_wrong_field_is_named(text: str, field: str) -> None:
    with pytest.raises(DamagedError) as error:
        parse_json(Example, text, Path("x.json"), "fix")
    assert field in str(error.value)
    assert "x.json" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
