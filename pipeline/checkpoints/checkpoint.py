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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from augment import Overlap, SeenTasks
from augment.augmentation import parse_puzzle_keys, puzzle_keys
from augment.errors import DamagedError, UserError
from augment.schema import read_fields, refuse
from augment.storage import new_folder, refuse_existing, seal, unseal
from pipeline.checkpoints.checkpoint_schema import FORMAT, CheckpointFile, KeysFile, SeenFile
from pipeline.checkpoints.tensor_files import FIX, load_numbers, save_tensors
from pipeline.config.run_config import RunConfig, build_config
from pipeline.runtime.exit_codes import CheckpointError

ABOUT = "checkpoint.json"
NEEDED_FILES = {"model.safetensors", "ids.safetensors", "keys.json", "seen.json"}
CARD = "README.md"


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


def save_checkpoint(folder: Path, checkpoint: Checkpoint, card: str = "", keep_same: bool = False) -> None:
    """Write a checkpoint; an existing folder is replaced when the new one is complete, and kept if it is the same.

    `card` is the text of the model card, which is not sealed. With `keep_same` another folder is refused (UserError).
    """
    tensors = {"model": checkpoint.weights, "ids": checkpoint.id_tensors()}
    tensors |= {} if checkpoint.average is None else {"average": checkpoint.average}
    same_card = not card or ((folder / CARD).is_file() and (folder / CARD).read_bytes() == card.encode())
    if keep_same and not same_card:
        refuse_existing(folder)
    with new_folder(folder, replace=not keep_same, compare=ABOUT if same_card else "") as unfinished:
        for name, group in tensors.items():
            # safetensors refuses tensors that are not contiguous.
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}
            save_tensors(plain, unfinished / f"{name}.safetensors")
        for name, text in encode_labels(checkpoint.keys, checkpoint.seen).items():
            (unfinished / name).write_text(text, encoding="utf-8")
        seal_checkpoint(unfinished, checkpoint.step, checkpoint.config, checkpoint.leaks)
        if card:
            (unfinished / CARD).write_bytes(card.encode())


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
        digest: the SHA-256 over the whole checkpoint.
    """

    step: int
    config: dict[str, Any]
    keys_digest: str
    digest: str

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
    for name in about.files:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing", FIX)
    return CheckpointHeader(about.step, about.config, about.files["keys.json"], about.sha256)


def unseal_checkpoint(folder: Path, header_only: bool = False) -> CheckpointFile:
    """Read checkpoint.json and verify the checksum of every file that it lists.

    Args:
        folder: the checkpoint.
        header_only: verify checkpoint.json only, not the files that it lists.

    Raises:
        CheckpointError: naming the file that is missing or altered, or the field that is wrong.
    """
    with _as_checkpoint_errors(folder):
        return unseal(folder / ABOUT, CheckpointFile, "checkpoint", FORMAT, FIX, header_only, NEEDED_FILES)


@contextmanager
def _as_checkpoint_errors(folder: Path) -> Iterator[None]:
    """Turn errors of damaged files into a CheckpointError."""
    try:
        yield
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
    average = load_numbers(folder / "average.safetensors") if "average.safetensors" in about.files else None
    weights = load_numbers(folder / "model.safetensors")
    weights = {name: _upcast(tensor) for name, tensor in weights.items()}
    with _as_checkpoint_errors(folder):
        tasks = read_fields(KeysFile, folder / "keys.json", FIX).tasks
        ids = _load_ids(folder / "ids.safetensors", tasks)
        seen = read_fields(SeenFile, folder / "seen.json", FIX)
    task_ids = chain.from_iterable([task] * len(numbers) for task, numbers in tasks.items())
    keys = puzzle_keys(task_ids, np.array(list(chain.from_iterable(tasks.values())), dtype=np.int64))
    optional = {
        "start_row": ids.get("start"),
        "shared_rows": ids.get("shared"),
        "start_shared": ids.get("start_shared"),
    }
    seen_tasks = SeenTasks(seen.tasks, seen.complete, seen.demonstrations)
    return Checkpoint(
        weights, average, ids["rows"], keys, about.step, about.config, seen_tasks, tuple(about.leaks), **optional
    )


def _load_ids(file: Path, tasks: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Load the tensors of ids.safetensors, and check their shapes against the keys."""
    ids = load_numbers(file)
    if "rows" not in ids:
        refuse(file, "rows is missing", FIX)
    size, shared_size = (ids[name].shape[-1:] for name in ("rows", "shared" if "shared" in ids else "rows"))
    count = sum(map(len, tasks.values()))
    needed = {"rows": (count, *size), "start": tuple(size)}
    needed |= {"shared": (len(tasks), *shared_size), "start_shared": tuple(shared_size)}
    for name, tensor in ids.items():
        if name not in needed:
            refuse(file, f"{name[:80]!a} is no tensor of an ID table", FIX)
        if tuple(tensor.shape) != needed[name]:
            shape = " x ".join(map(str, needed[name]))
            refuse(file, f"{name} is {_describe(tensor)}; by keys.json it must be {shape} numbers", FIX)
    return ids


def _describe(tensor: Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape)) or 'one'} {str(tensor.dtype).removeprefix('torch.')}"


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
