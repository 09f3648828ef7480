"""Predictions that are not finished yet: the parts that lie there come in, predictions of what they hold go out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submissions.grids import join_grids
from submissions.prediction import Answers, Part, Predictions, find_parts, read_part, renumbered


def read_parts(folder: Path, tasks: Sequence[str], metadata: dict[str, Any]) -> Predictions | None:
    """What the whole parts in a folder hold; None where there is none, or none that can be read.

    tasks: those that are asked, in the order of the puzzle set, as the parts were written with; metadata: as it is
    """
    parts = [part for number in sorted(find_parts(folder)) if (part := _read_part(folder, number, tasks))]
    if not parts:
        return None
    grids, numbers = join_grids([part.grids for part in parts])
    answers = Answers.joined([renumbered(part.rows, number) for part, number in zip(parts, numbers, strict=True)])
    recursions = {(tasks[place], test): shown for part in parts for (place, test), shown in part.recursions.items()}
    return Predictions(metadata, tuple(tasks), answers, grids, recursions)


def _read_part(folder: Path, number: int, tasks: Sequence[str]) -> Part | None:
    """One part; None where it is damaged, or was joined and removed meanwhile."""
    try:
        return read_part(folder, number, tasks)
    except (OSError, ValueError, KeyError):
        return None
