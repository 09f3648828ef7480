"""Mutations of Arrow tables and of named tensors; every one is a function of a `random.Random`."""

from random import Random
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from tests.helpers.mutations import ODD_NAMES, mutate_bytes


def mutate_table(random: Random, table: pa.Table) -> pa.Table:
    """Return the table with columns or rows altered: values, types, nulls, names, order, number."""
    columns = {name: table.column(name) for name in table.column_names}
    for _ in range(random.choice([1, 1, 2])):
        columns = _alter_columns(random, columns)
    lengths = {len(column) for column in columns.values()}
    shortest = min(lengths, default=0)
    return pa.table({name: column.slice(0, shortest) for name, column in columns.items()})


def _alter_columns(random: Random, columns: dict[str, Any]) -> dict[str, Any]:
    name = random.choice(list(columns))
    rows = len(columns[name])
    how = random.choice(["values"] * 6 + ["nulls", "type", "type", "drop", "rename", "add", "reorder", "rows", "rows"])
    if how in ("values", "nulls", "type"):
        alter = {"values": _alter_values, "nulls": _set_nulls, "type": _alter_type}[how]
        return columns | {name: alter(random, columns[name])}
    if how == "drop" and len(columns) > 1:
        return {key: column for key, column in columns.items() if key != name}
    if how == "rename":
        new = random.choice([*(text for text in ODD_NAMES if text.isascii()), name.upper()])
        return {new if key == name else key: column for key, column in columns.items()}
    if how == "add":
        return columns | {random.choice(["extra", "[red]"]): columns[name]}
    if how == "reorder":
        return {key: columns[key] for key in random.sample(list(columns), len(columns))}
    places = _other_rows(random, rows)
    return {key: column.take(pa.array(places, pa.int64())) for key, column in columns.items()}


def _other_rows(random: Random, rows: int) -> list[int]:
    every = list(range(rows))
    choices = [[], every[:-1], every[1:], every + every, every + every[:1], every[::-1], random.sample(every, rows)]
    return random.choice([*choices, every[:1] * 300])


def _alter_values(random: Random, column: pa.ChunkedArray) -> Any:
    """Return the column with one value, or a part inside it, replaced; of another type if it does not fit."""
    values = column.to_pylist()
    if not values:
        return column
    place = random.randrange(len(values))
    values[place] = _alter_value(random, values[place])
    return _to_column(values, column.type)


def _alter_value(random: Random, value: Any) -> Any:
    """Replace the value, or one inside a list or a struct."""
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        changed = _alter_value(random, value[place])
        return random.choice([[*value[:place], changed, *value[place + 1 :]]] * 3 + [value * 30, value[:-1]])
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        return value | {name: _alter_value(random, value[name])}
    if isinstance(value, bytes):
        return random.choice([mutate_bytes(random, value), b"", value * 200, bytes([200]) * len(value), None])
    if isinstance(value, bool):
        return random.choice([not value, None])
    if isinstance(value, int):
        return random.choice([0, 1, -1, 255, 31, value + 1, value * 7, 2**31 - 1, 2**32 - 1, -(2**31), 2**63 - 1, None])
    if isinstance(value, float):
        return random.choice([float("nan"), float("inf"), -float("inf"), 0.0, -value, 1e300, None])
    return random.choice(["", "a", "[red]", "a\nb", "x" * 3000, "scored", "train", None])


def _to_column(values: list[Any], kind: pa.DataType) -> Any:
    if pa.types.is_dictionary(kind):
        return _to_column(values, kind.value_type).dictionary_encode()
    for candidate in (kind, None):
        try:
            return pa.chunked_array([pa.array(values, candidate)])
        except (pa.ArrowException, OverflowError, TypeError):
            continue
    return pa.chunked_array([pa.array([None if value is None else str(value) for value in values])])


def _set_nulls(random: Random, column: pa.ChunkedArray) -> Any:
    values = column.to_pylist()
    if random.random() < 0.3 or not values:
        return pa.chunked_array([pa.nulls(len(values), random.choice([pa.null(), _plain(column.type)]))])
    values[random.randrange(len(values))] = None
    return _to_column(values, column.type)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _alter_type(random: Random, column: pa.ChunkedArray) -> Any:
    kinds = [pa.int64(), pa.int8(), pa.uint64(), pa.float64(), pa.float32(), pa.string(), pa.binary(), pa.bool_()]
    plain = column.cast(_plain(column.type)) if pa.types.is_dictionary(column.type) else column
    try:
        return plain.cast(random.choice(kinds))
    except pa.ArrowException:
        return pa.chunked_array([pa.array([str(value) for value in plain.to_pylist()], pa.string())])


def mutate_tensors(random: Random, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with one altered: type, shape, values, name, presence."""
    name = random.choice(list(tensors))
    tensor = tensors[name]
    rest = {key: value for key, value in tensors.items() if key != name}
    how = random.choice(["type", "shape", "values", "drop", "rename", "add", "swap"])
    if how == "drop":
        return rest
    if how == "rename":
        return rest | {random.choice(["", "x", "[red]", name + ".weight", name.upper(), "a\nb"]): tensor}
    if how == "add":
        return tensors | {random.choice(["extra", "[red]", name + "2"]): tensor.clone()}
    if how == "swap":
        other = random.choice(list(tensors))
        return tensors | {name: tensors[other].clone(), other: tensor.clone()}
    alter = {"type": _alter_dtype, "shape": _alter_shape, "values": _alter_numbers}[how]
    return rest | {name: alter(random, tensor).contiguous()}


def _alter_dtype(random: Random, tensor: Tensor) -> Tensor:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]
    return tensor.to(random.choice(kinds))


def _alter_shape(random: Random, tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    whole = tensor.reshape(1) if tensor.ndim == 0 else tensor
    choices = [flat, tensor[None], flat[:0], whole[:-1], torch.cat([whole, whole]), whole.transpose(0, -1), flat[:1]]
    return random.choice([*choices, whole[:0], whole.new_zeros(0, 0), whole.new_zeros(())]).clone()


def _alter_numbers(random: Random, tensor: Tensor) -> Tensor:
    changed = tensor.clone()
    if changed.is_floating_point():
        odd = random.choice([float("nan"), float("inf"), -float("inf"), 1e30, 0.0])
    else:
        odd = random.choice([0, 1, 127, -1])
    flat = changed.reshape(-1)
    flat[random.randrange(len(flat)) if len(flat) and random.random() < 0.5 else slice(None)] = odd
    return flat.reshape(tensor.shape)
