"""Names the ID rows of a published checkpoint after its identifiers.json.

TRM names the puzzle of a row TASK|||t3|||0213456789 and HRM TASK_t3_0213456789: a task, a dihedral transform, and the
new colour of each colour. A row with a task's ID alone is the task as it is. The first row is blank.
"""

import re
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from augment.augmentation import parse_puzzle_keys, puzzle_keys
from augment.errors import UserError
from augment.task import KEY_SEPARATOR
from augment.text_files import read_json
from pipeline.checkpoints.published_file import refuse_stand_in

BLANK = "<blank>"
UNDERSCORED = re.compile(r"(.+)_t([0-9])_([0-9]{10})", re.DOTALL)
FIX = "give the identifiers.json of the data set that it was trained on"


def name_rows(id_rows: Tensor | None, identifiers: Path | None, size: int) -> tuple[list[str], Tensor]:
    """Return the keys of the ID rows and the rows themselves, those of a task together, without the blank row.

    Args:
        id_rows: the ID rows (rows, size), if the checkpoint has them.
        identifiers: the file with the names of all rows; without it there are none.
        size: the length of an ID row.

    Raises:
        UserError: naming the identifiers' file, if its names are not those of the rows.
    """
    if identifiers is None:
        return [], torch.zeros(0, size)
    if id_rows is None:
        raise UserError(f"{identifiers} names ID rows, and the checkpoint has none", "leave --identifiers out")
    names = _read_names(identifiers, len(id_rows))
    places = [row for row, name in enumerate(names) if name != BLANK]
    try:
        tasks, numbers = parse_puzzle_keys(separate([names[row] for row in places]))
    except UserError as error:
        raise UserError(f"{identifiers}: {error.summary}", error.fix) from error
    keys = puzzle_keys(tasks, numbers)
    key, count = Counter(keys).most_common(1)[0] if keys else ("", 1)
    if count > 1:
        raise UserError(f"{identifiers} names {key} {count} times", FIX)
    first: dict[str, int] = {}
    order = sorted(range(len(keys)), key=lambda row: first.setdefault(tasks[row], row))
    return [keys[row] for row in order], id_rows[[places[row] for row in order]]


def separate(names: list[str]) -> list[str]:
    """Return HRM's names in TRM's form; names are left as they are where any is in TRM's form.

    A task's own ID may end like an augmentation. It is a task where others are augmentations of it, unless what comes
    before that ending is a task of the list.
    """
    if any(KEY_SEPARATOR in name for name in names):
        return names
    matches = [UNDERSCORED.fullmatch(name) for name in names]
    known = set(names)
    tasks = {match[1] for match in matches if match}
    return [
        KEY_SEPARATOR.join((match[1], f"t{match[2]}", match[3]))
        if match and (match[1] in known or name not in tasks)
        else name
        for name, match in zip(names, matches, strict=True)
    ]


def _read_names(identifiers: Path, rows: int) -> list[str]:
    refuse_stand_in(identifiers)
    names = read_json(identifiers)
    if not isinstance(names, list) or len(names) != rows or not all(isinstance(name, str) and name for name in names):
        count = f", and it has {len(names)}" if isinstance(names, list) and len(names) != rows else ""
        raise UserError(f"{identifiers}: must be a list of {rows} names, one per ID row of the checkpoint{count}", FIX)
    return names
