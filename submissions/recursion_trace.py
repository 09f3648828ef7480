"""Recursion traces: the decoded latents of a test input, and how far they moved, per supervision step.

The prediction stage records a trace under the identity augmentation. This module defines the trace and converts traces
to and from a Parquet table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

RECURSIONS = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("test", pa.int32(), nullable=False),
        pa.field("rows", pa.uint8(), nullable=False),
        pa.field("columns", pa.uint8(), nullable=False),
        pa.field("answer", pa.binary(), nullable=False),
        pa.field("reasoning", pa.binary(), nullable=False),
        pa.field("answer_moved", pa.list_(pa.float32()), nullable=False),
        pa.field("reasoning_moved", pa.list_(pa.float32()), nullable=False),
        pa.field("halting", pa.list_(pa.float32()), nullable=False),
    ]
)

MOVED = ("answer_moved", "reasoning_moved")


@dataclass(frozen=True, eq=False)
class Recursion:
    """The trace of T supervision steps on one test input under the identity augmentation.

    Attributes:
        answer, reasoning: uint8 (T, rows, columns), the tokens that the output head reads from the answer latent (z_H)
            and from the reasoning latent (z_L): 0 empty, 1 end mark, colour c is c + 2 (TRM, figure 6). `reasoning` has
            no frames (0, rows, columns) if the model has no reasoning latent.
        answer_moved, reasoning_moved: float32 (T, updates), |new - old| / |new| of each latent at each update within a
            supervision step. In older predictions (T, 1), over the whole supervision step.
        halting: float32 (T,), halting probability.
    """

    answer: NDArray[np.uint8]
    reasoning: NDArray[np.uint8]
    answer_moved: NDArray[np.float32]
    reasoning_moved: NDArray[np.float32]
    halting: NDArray[np.float32]


def recursion_table(recursions: Mapping[tuple[int, int], Recursion], tasks: Sequence[str]) -> pa.Table:
    """Return traces, given by (index of the task, index of the test input), as a Parquet table."""
    traces = list(recursions.values())
    columns = {
        "task": [tasks[place] for place, _ in recursions],
        "test": [test for _, test in recursions],
        "rows": [trace.answer.shape[1] for trace in traces],
        "columns": [trace.answer.shape[2] for trace in traces],
        **{name: [getattr(trace, name).tobytes() for trace in traces] for name in ("answer", "reasoning")},
        **{name: [getattr(trace, name).ravel() for trace in traces] for name in (*MOVED, "halting")},
    }
    return pa.table(columns, schema=RECURSIONS)


def read_recursion_table(table: pa.Table) -> dict[tuple[str, int], Recursion]:
    """Return the traces of a table made by `recursion_table`, by (task ID, index of the test input)."""
    traces = {}
    for row in table.to_pylist():
        steps = len(row["halting"])
        frame = (row["rows"], row["columns"])
        answer, reasoning = (np.frombuffer(row[name], np.uint8).reshape(-1, *frame) for name in ("answer", "reasoning"))
        # The shape is explicit because -1 is ambiguous for the empty `reasoning_moved` of a model without that latent.
        answer_moved, reasoning_moved = (
            np.array(row[name], np.float32).reshape(steps, len(row[name]) // steps) for name in MOVED
        )
        traces[row["task"], row["test"]] = Recursion(
            answer, reasoning, answer_moved, reasoning_moved, np.array(row["halting"], np.float32)
        )
    return traces
