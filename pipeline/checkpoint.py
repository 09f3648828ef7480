"""A checkpoint: weights, their moving average, the ID table with the key of every row, and the config they belong to.

A folder of safetensors and JSON, written beside its place, synced, and renamed, so that it is there whole or not at all:

    model.safetensors    parameters and starting latents, as trained
    average.safetensors  their moving average (where one was kept)
    ids.safetensors      the ID table, "rows" (puzzles, id size)
    keys.json            {"tasks": {task ID: [augmentation number, ...]}}: which puzzle each row belongs to, in row order
    checkpoint.json      step, config, and the SHA-256 of each file above
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from augment.puzzle import parse_puzzle_key, puzzle_key
from pipeline.rundir import read_json, write_json
from solver.embedding import IdTable

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything prediction and further training need.

    Attributes:
        weights: parameters and starting latents by name.
        average: moving average of the parameters, or None.
        id_rows: the ID table (puzzles, id size), float32.
        keys: the puzzle of each row (`augment.puzzle_key`).
        step: optimizer steps taken.
        config: the run's config as plain values.
    """

    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    id_rows: Tensor
    keys: list[str]
    step: int
    config: dict[str, Any]

    def best_weights(self) -> dict[str, Tensor]:
        """The averaged weights where there are some, with what is not averaged (starting latents) as it is."""
        return {**self.weights, **(self.average or {})}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, replacing the folder only once the new one is complete."""
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(_plain(checkpoint.weights), beside / "model.safetensors")
    if checkpoint.average is not None:
        save_file(_plain(checkpoint.average), beside / "average.safetensors")
    save_file({"rows": checkpoint.id_rows.cpu().contiguous()}, beside / "ids.safetensors")
    write_json(beside / "keys.json", {"tasks": _group_keys(checkpoint.keys)})
    files = sorted(path.name for path in beside.iterdir())
    write_json(
        beside / "checkpoint.json",
        {
            "format": FORMAT,
            "step": checkpoint.step,
            "config": checkpoint.config,
            "sha256": {name: _sha256(beside / name) for name in files},
        },
    )
    for path in beside.iterdir():
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)
    _sync(folder.parent)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint; ValueError naming the file that is missing, cut short or altered."""
    if not (folder / "checkpoint.json").is_file():
        raise ValueError(
            f"{folder}: not a checkpoint (no checkpoint.json); name a folder such as RUN/checkpoints/final"
        )
    about = read_json(folder / "checkpoint.json")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(
            f"{folder / 'checkpoint.json'}: format {FORMAT} is expected; it is from another version or damaged"
        )
    for name, digest in about["sha256"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise ValueError(f"{folder / name}: missing, cut short or altered; use another checkpoint")
    try:
        average = load_file(folder / "average.safetensors") if "average.safetensors" in about["sha256"] else None
        weights, rows = load_file(folder / "model.safetensors"), load_file(folder / "ids.safetensors")["rows"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{folder}: not readable as a checkpoint ({error}); use another one") from None
    keys = [puzzle_key(task, n) for task, numbers in read_json(folder / "keys.json")["tasks"].items() for n in numbers]
    if len(keys) != len(rows):
        raise ValueError(f"{folder / 'keys.json'}: {len(keys)} keys for {len(rows)} ID rows; use another checkpoint")
    return Checkpoint(weights, average, rows, keys, about["step"], about["config"])


def match_rows(checkpoint: Checkpoint, keys: list[str]) -> tuple[IdTable, int]:
    """An ID table for `keys`: rows matched by key, the others at the mean of the trained ones; and how many matched."""
    place = {key: row for row, key in enumerate(checkpoint.keys)}
    found = torch.tensor([place.get(key, -1) for key in keys])
    known = checkpoint.id_rows
    mean = known.mean(dim=0, keepdim=True) if len(known) else known.new_zeros(1, known.shape[1])
    table = IdTable(len(keys), known.shape[1])
    table.weights_PI.copy_(torch.cat([known, mean])[found])
    return table, int((found >= 0).sum())


def _group_keys(keys: list[str]) -> dict[str, list[int]]:
    """Rows by task; a task's rows must stand together, or reading them back would change their order."""
    groups: dict[str, list[int]] = {}
    last = None
    for task, number in map(parse_puzzle_key, keys):
        if task != last and task in groups:
            raise ValueError(f"the ID rows of task {task} do not stand together; sort the rows by task")
        groups.setdefault(task, []).append(number)
        last = task
    return groups


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
