"""The recursion on one test input, step by step: what the latents held and how far they moved.

In: what the prediction stage saw under the unchanged augmentation. Out: the same as a Parquet table, and back.
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
    """T supervision steps on one test input, unchanged by augmentation.

    answer, reasoning: uint8 (T, rows, columns), the tokens of the canvas that the output head reads from the answer
    latent (z_h) and from the reasoning latent (z_l): 0 empty, 1 end mark, colour c is c + 2 (TRM, figure 6). A model
    without a reasoning latent has no frames of it
    answer_moved, reasoning_moved: float32 (T, updates), |new - old| / |new| of each latent at each update within a
    step; of predictions made before updates were followed (T, 1), over the whole step
    halting: float32 (T,), halting probability
    """

    answer: NDArray[np.uint8]
    reasoning: NDArray[np.uint8]
    answer_moved: NDArray[np.float32]
    reasoning_moved: NDArray[np.float32]
    halting: NDArray[np.float32]


def recursion_table(recursions: Mapping[tuple[int, int], Recursion], tasks: Sequence[str]) -> pa.Table:
    """As a Parquet table, given by (place of the task, test input)."""
    shown = list(recursions.values())
    columns = {
        "task": [tasks[place] for place, _ in recursions],
        "test": [test for _, test in recursions],
        "rows": [each.answer.shape[1] for each in shown],
        "columns": [each.answer.shape[2] for each in shown],
        **{name: [getattr(each, name).tobytes() for each in shown] for name in ("answer", "reasoning")},
        **{name: [getattr(each, name).ravel() for each in shown] for name in (*MOVED, "halting")},
    }
    return pa.table(columns, schema=RECURSIONS)


def recursions_of(table: pa.Table) -> dict[tuple[str, int], Recursion]:
    """Undo `recursion_table`: by (task ID, test input)."""
    found = {}
    for row in table.to_pylist():
        steps = len(row["halting"])
        frame = (row["rows"], row["columns"])
        answer, reasoning = (np.frombuffer(row[name], np.uint8).reshape(-1, *frame) for name in ("answer", "reasoning"))
        answers, others = (np.array(row[name], np.float32).reshape(steps, len(row[name]) // steps) for name in MOVED)
        found[row["task"], row["test"]] = Recursion(
            answer, reasoning, answers, others, np.array(row["halting"], np.float32)
        )
    return found
