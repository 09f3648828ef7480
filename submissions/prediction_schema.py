"""What the files of a predictions folder must hold: its JSON file, and how the values of its tables must agree.

numba kernels and array indices rely on these checks, which run once, when a folder or a shard is read.
"""

from collections import Counter
from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from augment.augmentation import AUGMENTATIONS
from augment.grid import COLOURS, MAX_SIDE
from augment.schema import Count, Schema, SealedHeader, count_items, join_bytes, refuse, require
from submissions.grid_table import Grids
from submissions.predictions import NO_GRID

FIX = "run the predict stage again"
TOKENS = COLOURS + 2
"""Tokens of a model: empty, end mark, and the colours."""
ROUNDING = 1e-3
"""By this a sum of log-probabilities may be above 0."""


class MadeFrom(Schema):
    """The inputs that determine predictions (`pipeline.prediction.predict.identify`)."""

    weights: str
    puzzle_set: str
    seed: Count | None
    augmentations: Count | None
    steps: Count | None
    record: str
    trajectories: Count
    noise: float
    temperature: float
    second_pass: bool
    each_task: dict[str, JsonValue] | None = None


class Metadata(Schema):
    """The origin of predictions. Pooled predictions have other entries than those of one model, so all are optional."""

    recipe: str = ""
    checkpoint: str = ""
    sources: dict[str, list[str]] = Field(default_factory=dict)
    trained_on: list[str] = Field(default_factory=list)
    training_known: bool = False
    related_looks: list[str] = Field(default_factory=list)
    step: Count = 0
    supervision_steps: Count = 0
    second_pass: dict[str, list[Count]] = Field(default_factory=dict)
    made_from: MadeFrom | None = None
    record: str = ""
    trajectories: Count = 0
    noise: float = 0.0
    temperature: float = 0.0
    augmentations: Count = 0
    merged: list[str] = Field(default_factory=list)
    steps_differ: bool = False


class PredictionsHeader(SealedHeader):
    """The contents of predictions.json (docs/file_formats.md)."""

    answers: Count
    malformed: Count
    grids: Count
    metadata: Metadata

    def plain_metadata(self) -> dict[str, Any]:
        """Return the entries of the metadata that the file has, as JSON values."""
        return self.metadata.model_dump(exclude_unset=True)


def check_rows(file: Path, table: pa.Table) -> None:
    """Check the rows of a table of predictions or of rescoring.

    Raises:
        DamagedError: naming file, row and field.
    """
    require(table["test"].to_numpy() >= 0, file, "test: below 0", FIX)
    require(table["augmentation"].to_numpy() < AUGMENTATIONS, file, f"augmentation: not 0 to {AUGMENTATIONS - 1}", FIX)
    # NaN is an unknown log-probability, or one that overflowed, and -inf that of a grid that does not fit its canvas.
    require(~(table["log_prob"].to_numpy() > ROUNDING), file, "log_prob: above 0", FIX)


def check_malformed(file: Path, grid: NDArray[np.int32], malformed: int) -> None:
    """Raise DamagedError if another number of predictions has no grid than the JSON file states."""
    found = int((grid == NO_GRID).sum())
    if found != malformed:
        refuse(file, f"malformed: {malformed:,}, but {found:,} predictions have no grid", FIX)


def check_grids(file: Path, table: pa.Table) -> None:
    """Check the columns of a table of grids: sides, numbers of cells, and colours.

    Raises:
        DamagedError: naming file, row and field.
    """
    areas = 1
    for name in ("height", "width"):
        sides = table[name].to_numpy().astype(np.int64)
        require((sides >= 1) & (sides <= MAX_SIDE), file, f"{name}: not 1 to {MAX_SIDE}", FIX)
        areas = areas * sides
    require(count_items(table["cells"]) == areas, file, "cells: not as many as height x width", FIX)


def check_contents(file: Path, grids: Grids) -> None:
    """Check the colours of grids whose sides were checked, and that their IDs are different.

    The IDs are not computed from the cells again, which would take a tenth of the time of a vote.

    Raises:
        DamagedError: naming file and field.
    """
    if grids.cells.size and grids.cells.max() >= COLOURS:
        refuse(file, f"cells: a colour above {COLOURS - 1}", FIX)
    if len(np.unique(grids.ids)) != len(grids):
        refuse(file, "id: two grids have the same one", FIX)


def check_recursions(file: Path, table: pa.Table) -> None:
    """Check the shapes of recursion traces: every column must have whole frames or whole steps.

    Raises:
        DamagedError: naming file, row and field.
    """
    for name in ("answer_moved", "reasoning_moved", "halting"):
        if table[name].combine_chunks().flatten().null_count:
            refuse(file, f"{name}: a value is null", FIX)
    steps = count_items(table["halting"])
    require(steps >= 1, file, "halting: no supervision step", FIX)
    require(table["test"].to_numpy() >= 0, file, "test: below 0", FIX)
    sides = [table[name].to_numpy().astype(np.int64) for name in ("rows", "columns")]
    for name, side in zip(("rows", "columns"), sides, strict=True):
        require(side >= 1, file, f"{name}: 0", FIX)
    frames = steps * sides[0] * sides[1]
    answer, reasoning = (count_items(table[name]) for name in ("answer", "reasoning"))
    require(answer == frames, file, "answer: not one frame for each supervision step", FIX)
    require((reasoning == frames) | (reasoning == 0), file, "reasoning: not one frame for each supervision step", FIX)
    for name in ("answer_moved", "reasoning_moved"):
        require(count_items(table[name]) % steps == 0, file, f"{name}: not as many for each supervision step", FIX)
    for name in ("answer", "reasoning"):
        tokens = join_bytes(table[name].combine_chunks())
        if tokens.max(initial=0) >= TOKENS:
            refuse(file, f"{name}: a token above {TOKENS - 1}", FIX)


def check_repeated(file: Path, inputs: list[tuple[str, int]], again: Set[tuple[str, int]]) -> None:
    """Check that test inputs have one trace each, and those of the second pass at most two.

    Args:
        file: the table of traces.
        inputs: its rows as (task ID, index of the test input).
        again: the test inputs that were predicted again on the whole board.

    Raises:
        DamagedError: naming file and task.
    """
    counts = Counter(inputs)
    for (task, test), count in counts.items():
        if count > 1 + ((task, test) in again):
            refuse(file, f"task: {task!a:.100} has {count} traces of test {test}", FIX)
