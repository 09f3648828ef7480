"""Saves and loads checkpoints: weights, their moving average, the puzzle embeddings with their keys, and the config.

A checkpoint is a folder of safetensors and JSON files, written atomically (`augment.storage`):

    model.safetensors    parameters and starting latents, as trained
    average.safetensors  their moving average (where one was kept)
    ids.safetensors      the ID table (puzzle embeddings): "rows" (rows, id size); with a symbol axis also "shared"
                         (tasks, size); in a backbone (`pipeline.checkpoints.backbone`) also "start" (id size) and
                         "start_shared" (size)
    keys.json            {"tasks": {task ID: [augmentation number, ...]}}: the puzzle that names each row, in order
    seen.json            tasks that were trained on with their test outputs (`augment.contamination`)
    checkpoint.json      step, config, overlaps that were allowed, and the SHA-256 of each file above

The checkpoints that a run writes during training (`pipeline.checkpoints.manager`) contain more files, and load the same
way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from augment import Overlap, SeenTasks
from augment.augmentation import parse_puzzle_keys, puzzle_keys
from augment.errors import DamagedError, UserError
from augment.storage import new_folder, read_json, seal, unseal
from augment.task import KEY_SEPARATOR
from pipeline.checkpoints.tensor_files import save_tensors
from pipeline.config.run_config import RunConfig, build_config
from pipeline.runtime.exit_codes import CheckpointError
from solver.model.config import ModelConfig
from solver.model.puzzle_embedding import PuzzleEmbedding

FORMAT = 3
ABOUT = "checkpoint.json"
FIX = "name another checkpoint, such as RUN/checkpoints/final"


@dataclass(frozen=True)
class Checkpoint:
    """What prediction needs, and further training starts from.

    Attributes:
        weights: parameters and starting latents by name.
        average: moving average of the parameters, or None.
        id_rows: the ID table (rows, id size), float32.
        keys: the puzzle that names each row (`augment.puzzle_key`); `solver.data.puzzle_ids` defines which puzzles
            share a row.
        step: optimizer steps taken.
        config: the run's config as plain values.
        seen: the train tasks of all sets that these weights were trained on, those of earlier checkpoints included.
        leaks: overlaps that were allowed: scored tasks that one of those sets also contained as train tasks.
        start_row: the initial value of new ID rows (id size,), in a backbone, which has no ID rows of its own.
        shared_rows: the part of the ID rows that all rows of a task share (tasks, size), in a model with a symbol
            axis; tasks are in the order of the keys.
        start_shared: the initial value of new shared rows (size,), in a backbone.
    """

    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    id_rows: Tensor
    keys: list[str]
    step: int
    config: dict[str, Any]
    seen: SeenTasks = field(default_factory=lambda: SeenTasks({}, complete=False))
    leaks: tuple[Overlap, ...] = ()
    start_row: Tensor | None = None
    shared_rows: Tensor | None = None
    start_shared: Tensor | None = None

    @cached_property
    def run_config(self) -> RunConfig:
        """The run's config, parsed and validated once."""
        return build_config(self.config)

    def best_weights(self) -> dict[str, Tensor]:
        """Return the averaged weights if there is an average, plus the tensors that have none (starting latents)."""
        return {**self.weights, **(self.average or {})}

    def new_row(self) -> Tensor:
        """Return the initial value of new ID rows (id size,): a backbone's start row, otherwise the mean row."""
        return mean_row(self.id_rows) if self.start_row is None else self.start_row

    def id_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of ids.safetensors by name."""
        tensors = {"rows": self.id_rows, "start": self.start_row}
        tensors |= {"shared": self.shared_rows, "start_shared": self.start_shared}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def mean_row(rows: Tensor) -> Tensor:
    """Return the mean of rows (n, size) as (size,); zeros if there are no rows."""
    return rows.sum(dim=0) / max(1, len(rows))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an existing folder is replaced only when the new one is complete."""
    tensors = {"model": checkpoint.weights, "ids": checkpoint.id_tensors()}
    tensors |= {} if checkpoint.average is None else {"average": checkpoint.average}
    with new_folder(folder, replace=True) as unfinished:
        for name, group in tensors.items():
            # safetensors refuses tensors that are not contiguous.
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}
            save_tensors(plain, unfinished / f"{name}.safetensors")
        for name, text in encode_labels(checkpoint.keys, checkpoint.seen).items():
            (unfinished / name).write_text(text, encoding="utf-8")
        seal_checkpoint(unfinished, checkpoint.step, checkpoint.config, checkpoint.leaks)


def encode_labels(keys: list[str], seen: SeenTasks) -> dict[str, str]:
    """Return the text of keys.json and seen.json by file name; it is the same at every step of a run."""
    values = {"keys.json": {"tasks": _group_keys(keys)}, "seen.json": seen.to_json()}
    return {name: json.dumps(value) + "\n" for name, value in values.items()}


def seal_checkpoint(folder: Path, step: int, config: dict, leaks: Sequence[Overlap], **more: Any) -> None:
    """Write checkpoint.json with the checksums of the other files; it must be the last file written."""
    seal(folder, ABOUT, {"format": FORMAT, "step": step, "config": config, "leaks": leaks, **more})


@dataclass(frozen=True)
class CheckpointHeader:
    """The contents of checkpoint.json, read without the tensors.

    Attributes:
        step: optimizer steps taken.
        config: the run's config as plain values.
        keys_digest: the SHA-256 of keys.json, which names the puzzle of each ID row.
    """

    step: int
    config: dict[str, Any]
    keys_digest: str

    @property
    def recipe(self) -> str:
        """The name of the recipe that it was trained with."""
        return self.config["recipe"]


def read_checkpoint_header(folder: Path) -> CheckpointHeader:
    """Read checkpoint.json only; the checksums of the other files are verified when they are loaded.

    Raises:
        CheckpointError: if it was altered, or a file that it lists is missing.
    """
    about = unseal_checkpoint(folder, header_only=True)
    for name in about["files"]:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing", FIX)
    return CheckpointHeader(about["step"], about["config"], about["files"]["keys.json"])


def unseal_checkpoint(folder: Path, header_only: bool = False) -> dict[str, Any]:
    """Read checkpoint.json and verify the checksum of every file that it lists.

    Args:
        folder: the checkpoint.
        header_only: verify checkpoint.json only, not the files that it lists.

    Raises:
        CheckpointError: naming the file that is missing or altered.
    """
    try:
        return unseal(folder / ABOUT, "checkpoint", FORMAT, FIX, header_only)
    except DamagedError as error:
        raise CheckpointError(error.summary, error.fix) from None
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error})", FIX) from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load a checkpoint; bf16 weights become float32.

    Raises:
        CheckpointError: naming the file that is missing or altered.
    """
    about = unseal_checkpoint(folder)
    average = load_tensors(folder / "average.safetensors") if "average.safetensors" in about["files"] else None
    weights = load_tensors(folder / "model.safetensors")
    ids = load_tensors(folder / "ids.safetensors")
    weights = {name: _upcast(tensor) for name, tensor in weights.items()}
    rows = ids["rows"]
    tasks = read_json(folder / "keys.json")["tasks"]
    task_ids = chain.from_iterable([task] * len(numbers) for task, numbers in tasks.items())
    keys = puzzle_keys(task_ids, np.array(list(chain.from_iterable(tasks.values())), dtype=np.int64))
    if len(keys) != len(rows):
        raise CheckpointError(
            f"{folder / 'keys.json'} has {len(keys)} keys for {len(rows)} ID rows", "name another checkpoint"
        )
    seen = SeenTasks.from_json(read_json(folder / "seen.json"))
    leaks = tuple(Overlap(*leak) for leak in about["leaks"])
    optional = {
        "start_row": ids.get("start"),
        "shared_rows": ids.get("shared"),
        "start_shared": ids.get("start_shared"),
    }
    return Checkpoint(weights, average, rows, keys, about["step"], about["config"], seen, leaks, **optional)


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Load the tensors of a .safetensors file by name; raises a CheckpointError if it cannot be read."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error})", FIX) from error


def match_rows(checkpoint: Checkpoint, keys: list[str]) -> tuple[PuzzleEmbedding, int]:
    """Build an ID table for `keys` from the checkpoint's rows with the same keys.

    Returns:
        The table, and how many rows were matched; the others start at `Checkpoint.new_row`.
    """
    row_of_key = {key: row for row, key in enumerate(checkpoint.keys)}
    # Keys without a row get -1, which selects the start row that is appended last below.
    matches = torch.tensor([row_of_key.get(key, -1) for key in keys])
    id_rows = checkpoint.id_rows
    shared = checkpoint.shared_rows
    shared_size = 0 if shared is None else shared.shape[1]
    table = PuzzleEmbedding(len(keys), id_rows.shape[1] + shared_size, shared_size, number_tasks(keys))
    table.weights_PI.copy_(torch.cat([id_rows, checkpoint.new_row()[None]])[matches])
    if shared is not None:
        new_tasks = list(dict.fromkeys(map(find_task, keys)))
        old_tasks = list(dict.fromkeys(map(find_task, checkpoint.keys)))
        numbers = {task: number for number, task in enumerate(old_tasks)}
        start = mean_row(shared) if checkpoint.start_shared is None else checkpoint.start_shared
        table.shared_GI.copy_(torch.cat([shared, start[None]])[[numbers.get(task, -1) for task in new_tasks]])
    return table, int((matches >= 0).sum())


def new_table(keys: list[str], model: ModelConfig) -> PuzzleEmbedding:
    """Build an untrained ID table with one row for each key."""
    return PuzzleEmbedding(len(keys), model.id_length, model.shared_id_length, number_tasks(keys))


def find_task(key: str) -> str:
    """Return the task ID in a row's key."""
    return key.partition(KEY_SEPARATOR)[0]


def number_tasks(keys: list[str]) -> Tensor:
    """Return the task number of each row (rows,); tasks are numbered in the order in which the keys name them."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(find_task(key), len(numbers)) for key in keys], dtype=torch.int64)


def _upcast(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _group_keys(keys: list[str]) -> dict[str, list[int]]:
    """Group the augmentation numbers by task.

    The rows of a task must be consecutive: keys.json stores them by task, so loading would otherwise reorder them.
    """
    groups: dict[str, list[int]] = {}
    last = None
    task_ids, numbers = parse_puzzle_keys(keys)
    for task, number in zip(task_ids, numbers.tolist(), strict=True):
        if task != last and task in groups:
            raise UserError(f"the ID rows of task {task} are not consecutive", "sort the rows by task")
        groups.setdefault(task, []).append(number)
        last = task
    return groups


def fingerprint(trained: Checkpoint) -> str:
    """Return the SHA-256 of all that predictions depend on: model settings, weights, and ID rows with their keys."""
    digest = sha256(json.dumps([trained.config["model"], trained.keys], sort_keys=True).encode())
    for name, tensor in sorted((trained.best_weights() | _id_tensors(trained)).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _id_tensors(trained: Checkpoint) -> dict[str, torch.Tensor]:
    return {"ids" if name == "rows" else f"ids.{name}": rows for name, rows in trained.id_tensors().items()}
