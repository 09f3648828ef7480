"""State what a file must hold, and check it when the file is read.

JSON files are described by a `Schema` (pydantic), Parquet files by an Arrow schema. A field that is missing, null,
extra or of another type gives one DamagedError that names the file and the field. Checksums do not replace these
checks: whoever alters a file can compute them again.
"""

from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from augment.errors import DamagedError
from augment.parquet_pages import PageError, check_pages, decoded_size, promised_size
from augment.text_files import read_regular_file

GIB = 2**30
LARGEST = 2**63 - 1
"""The largest number of arrays and tensors, and so of counts and seeds in files."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]
"""A number of things, the position of one, or a seed."""


class Schema(BaseModel):
    """Base class of the contents of JSON files. Types are strict: true and 1.0 are no integers, NaN is no number."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SealedHeader(Schema):
    """The fields that seal a folder (`augment.storage.seal`)."""

    format: int
    files: dict[str, str]
    """SHA-256 of each file of the folder, by name."""
    sha256: str
    """SHA-256 of all other fields."""


Content = TypeVar("Content", bound=Schema)


def parse_json(schema: type[Content], text: str | bytes, file: Path, fix: str) -> Content:
    """Parse the text of a JSON file.

    Raises:
        DamagedError: naming the first field that is wrong.
    """
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        # The text may hold anything, and a message must be one printable line.
        field = ascii(".".join(map(str, problems[0]["loc"])))[1:-1][:200] or "the file"
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        refuse(file, f"{field}: {problems[0]['msg']:.200}{more}", fix)


def read_fields(schema: type[Content], file: Path, fix: str) -> Content:
    """Read a JSON file; raises a DamagedError if it does not exist, or that names the first field that is wrong."""
    try:
        text = read_regular_file(file)
    except FileNotFoundError:
        refuse(file, "it does not exist", fix)
    return parse_json(schema, text, file, fix)


def read_table(file: Path, schema: pa.Schema, fix: str, rows: int | None = None, nullable: bool = False) -> pa.Table:
    """Read a Parquet file whose columns are exactly those of the schema.

    The numbers of rows, values and bytes that the file's own headers state, and the size of values that dictionaries
    repeat, are checked before they are unpacked.

    Args:
        file: the file.
        schema: names, types and order of the columns.
        fix: what the user should do about a wrong file, for messages.
        rows: the number of rows that another file states; None if none does.
        nullable: whether columns that the schema calls nullable may hold null. Nested values are not checked.

    Raises:
        DamagedError: if the file cannot be read, has other columns, more or fewer rows, or does not fit into memory.
    """
    try:
        with pq.ParquetFile(file, memory_map=True) as parquet:
            _check_header(file, parquet, schema, fix, rows)
            _check_size(file, parquet.metadata, schema, fix)
            table = parquet.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise DamagedError(f"{file} cannot be read ({str(error).splitlines()[0]:.200})", fix) from None
    for field in schema:
        if table.column(field.name).null_count and not (nullable and field.nullable):
            refuse(file, f"{field.name}: a value is null", fix)
    return table


def _check_header(file: Path, parquet: pq.ParquetFile, schema: pa.Schema, fix: str, rows: int | None) -> None:
    """Raise DamagedError for other columns or rows, from the header alone."""
    found = parquet.schema_arrow
    if found.names != schema.names:
        missing = [name for name in schema.names if name not in found.names]
        extra = [name for name in found.names if name not in schema.names]
        listed = [
            f"{kind} {', '.join(map(ascii, names))}" for kind, names in (("misses", missing), ("has", extra)) if names
        ]
        refuse(file, f"the table {' and '.join(listed) or 'has columns in another order'}", fix)
    for field in schema:
        if not found.field(field.name).type.equals(field.type):
            refuse(file, f"{field.name}: the type is {found.field(field.name).type}, not {field.type}", fix)
    metadata = parquet.metadata
    if rows is not None and metadata.num_rows != rows:
        refuse(file, f"it has {metadata.num_rows:,} rows, not {rows:,}", fix)


def _check_size(file: Path, metadata: pq.FileMetaData, schema: pa.Schema, fix: str) -> None:
    """Raise DamagedError if the pages contradict the header, or unpack to more than the free memory."""
    size = promised_size(metadata)
    free = psutil.virtual_memory().available
    _check_memory(file, size, free, fix)
    try:
        repeated = check_pages(file, metadata)
    except PageError as error:
        refuse(file, str(error), fix)
    # Columns that are dictionaries in memory too do not repeat their values.
    columns = [path for path in repeated if not pa.types.is_dictionary(schema.field(path.split(".")[0]).type)]
    if size + sum(repeated[path] for path in columns) > free:
        _check_memory(file, size + decoded_size(file, columns), free, fix)


def _check_memory(file: Path, size: int, free: int, fix: str) -> None:
    """Raise DamagedError if a table of this many bytes does not fit into the free memory."""
    if size > free:
        refuse(file, f"it unpacks to {size / GIB:,.1f} GiB, but {free / GIB:,.1f} GiB of memory are free", fix)


def count_items(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the number of items of each list, or of bytes of each binary value (rows,)."""
    function = "binary_length" if pa.types.is_binary(column.type) else "list_value_length"
    return pc.call_function(function, [column]).to_numpy().astype(np.int64)


def join_bytes(column: pa.BinaryArray) -> NDArray[np.uint8]:
    """Return the bytes of all values without nulls, concatenated, as a view of the column's buffer."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return np.zeros(0, np.uint8)
    # A slice of a column shares the buffers of the whole.
    extent = np.frombuffer(offsets, np.int32)[[column.offset, column.offset + len(column)]]
    return np.frombuffer(data, np.uint8)[slice(*extent.tolist())]


def require(valid: NDArray[np.bool_], file: Path, what: str, fix: str) -> None:
    """Raise DamagedError with the first row that is not valid.

    Args:
        valid: (rows,), whether each row is as it must be.
        file: the file.
        what: the field, and what is wrong with it in such a row.
        fix: what the user should do.
    """
    if not valid.all():
        refuse(file, f"row {int(np.argmin(valid)):,}: {what}", fix)


def refuse(file: Path, what: str, fix: str) -> NoReturn:
    """Raise DamagedError for a file."""
    raise DamagedError(f"{file}: {what}", fix)
