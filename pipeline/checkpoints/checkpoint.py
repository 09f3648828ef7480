"""A checkpoint: weights, their moving average, the ID table with the key of every row, and the config they belong to.

A folder of safetensors and JSON that is there whole or not at all (`augment.storage`):

    model.safetensors    parameters and starting latents, as trained
    average.safetensors  their moving average (where one was kept)
    ids.safetensors      the ID table, "rows" (rows, id size), with a symbol axis "shared" (tasks, size); of a backbone
                         (`pipeline.checkpoints.backbone`) also "start" (id size) and "start_shared" (size)
    keys.json            {"tasks": {task ID: [augmentation number, ...]}}: the puzzle that names each row, in order
    seen.json            tasks that were trained on with their test outputs (`augment.contamination`)
    checkpoint.json      step, config, leaks that were allowed, and the SHA-256 of each file above

Those that a run writes on its way (`pipeline.checkpoints.manager`) hold more, and can be read as these can.
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
from safetensors.torch import load_file, save_file
from torch import Tensor

from augment import Overlap, SeenTasks
from augment.augmentation import parse_puzzle_keys, puzzle_keys
from augment.errors import DamagedError, UserError
from augment.storage import new_folder, read_json, seal, unseal
from augment.task import KEY_SEPARATOR
from pipeline.config.run_config import RunConfig, build_config
from pipeline.runtime.exit_codes import CheckpointError
from solver.model.config import ModelConfig
from solver.model.puzzle_embedding import PuzzleEmbedding

FORMAT = 3
ABOUT = "checkpoint.json"
FIX = "name another checkpoint, such as RUN/checkpoints/final"


@dataclass(frozen=True)
class Checkpoint:
    """Everything prediction and further training need.

    Attributes:
        weights: parameters and starting latents by name.
        average: moving average of the parameters, or None.
        id_rows: the ID table (rows, id size), float32.
        keys: the puzzle that names each row (`augment.puzzle_key`); which puzzles share it: `solver.data.puzzle_ids`.
        step: optimizer steps taken.
        config: the run's config as plain values.
        seen: the train tasks of every set it was trained on, from the first weights on.
        leaks: scored tasks that one of those sets held as train tasks too, which was allowed.
        start_row: where new ID rows start (id size,), in a backbone, whose own rows are gone.
        shared_rows: of a model with a symbol axis, what the rows of a task share (tasks, size), tasks in the order of
            the keys; start_shared: where new ones start (size,), in a backbone.
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
        """The config, parsed once."""
        return build_config(self.config)

    def best_weights(self) -> dict[str, Tensor]:
        """The averaged weights where there are some, with what is not averaged (starting latents) as it is."""
        return {**self.weights, **(self.average or {})}

    def new_row(self) -> Tensor:
        """Where new ID rows start (id size,): the start row of a backbone, else the mean of the rows."""
        return mean_row(self.id_rows) if self.start_row is None else self.start_row

    def id_tensors(self) -> dict[str, Tensor]:
        """What ids.safetensors holds, by name."""
        named = {"rows": self.id_rows, "start": self.start_row}
        named |= {"shared": self.shared_rows, "start_shared": self.start_shared}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def mean_row(rows: Tensor) -> Tensor:
    """The mean of rows (n, size), zeros of none."""
    return rows.sum(dim=0) / max(1, len(rows))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, replacing the folder only once the new one is complete."""
    tensors = {"model": checkpoint.weights, "ids": checkpoint.id_tensors()}
    tensors |= {} if checkpoint.average is None else {"average": checkpoint.average}
    with new_folder(folder, replace=True) as unfinished:
        for name, named in tensors.items():
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in named.items()}
            save_file(plain, unfinished / f"{name}.safetensors")
        for name, text in encode_labels(checkpoint.keys, checkpoint.seen).items():
            (unfinished / name).write_text(text, encoding="utf-8")
        seal_checkpoint(unfinished, checkpoint.step, checkpoint.config, checkpoint.leaks)


def encode_labels(keys: list[str], seen: SeenTasks) -> dict[str, str]:
    """The JSON files that say what was trained on, by name; they are the same at every step of a run."""
    values = {"keys.json": {"tasks": _group_keys(keys)}, "seen.json": seen.to_json()}
    return {name: json.dumps(value) + "\n" for name, value in values.items()}


def seal_checkpoint(folder: Path, step: int, config: dict, leaks: Sequence[Overlap], **more: Any) -> None:
    """Write checkpoint.json, which completes the folder."""
    seal(folder, ABOUT, {"format": FORMAT, "step": step, "config": config, "leaks": leaks, **more})


@dataclass(frozen=True)
class CheckpointHeader:
    """What checkpoint.json tells of a checkpoint, without its tensors.

    step: optimizer steps taken
    config: the run's config as plain values
    keys_digest: the SHA-256 of keys.json, which names the puzzle of each ID row
    """

    step: int
    config: dict[str, Any]
    keys_digest: str

    @property
    def recipe(self) -> str:
        """The recipe that it was trained with."""
        return self.config["recipe"]


def read_checkpoint_header(folder: Path) -> CheckpointHeader:
    """Read checkpoint.json alone; whether the other files are intact is checked when they are loaded.

    Raises:
        CheckpointError: where it was altered, or a file that it lists is missing.
    """
    about = unseal_checkpoint(folder, header_only=True)
    for name in about["files"]:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing", FIX)
    return CheckpointHeader(about["step"], about["config"], about["files"]["keys.json"])


def unseal_checkpoint(folder: Path, header_only: bool = False) -> dict[str, Any]:
    """What checkpoint.json says, once every file is checked; CheckpointError naming one that is missing or altered."""
    try:
        return unseal(folder / ABOUT, "checkpoint", FORMAT, FIX, header_only)
    except DamagedError as error:
        raise CheckpointError(error.summary, error.fix) from None
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error})", FIX) from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, bf16 weights as float32; CheckpointError naming a file that is missing or altered."""
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
            f"{folder / 'keys.json'}: {len(keys)} keys for {len(rows)} ID rows", "name another checkpoint"
        )
    seen = SeenTasks.from_json(read_json(folder / "seen.json"))
    leaks = tuple(Overlap(*leak) for leak in about["leaks"])
    more = {"start_row": ids.get("start"), "shared_rows": ids.get("shared"), "start_shared": ids.get("start_shared")}
    return Checkpoint(weights, average, rows, keys, about["step"], about["config"], seen, leaks, **more)


def load_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file by name; CheckpointError where it cannot be read."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error})", FIX) from error


def match_rows(checkpoint: Checkpoint, keys: list[str]) -> tuple[PuzzleEmbedding, int]:
    """An ID table for `keys`: rows matched by key, the others as `new_row` says; and how many matched."""
    place = {key: row for row, key in enumerate(checkpoint.keys)}
    found = torch.tensor([place.get(key, -1) for key in keys])
    known = checkpoint.id_rows
    shared = checkpoint.shared_rows
    shared_size = 0 if shared is None else shared.shape[1]
    table = PuzzleEmbedding(len(keys), known.shape[1] + shared_size, shared_size, number_tasks(keys))
    table.weights_PI.copy_(torch.cat([known, checkpoint.new_row()[None]])[found])
    if shared is not None:
        ours, theirs = (list(dict.fromkeys(map(find_task, each))) for each in (keys, checkpoint.keys))
        tasks = {task: number for number, task in enumerate(theirs)}
        start = mean_row(shared) if checkpoint.start_shared is None else checkpoint.start_shared
        table.shared_GI.copy_(torch.cat([shared, start[None]])[[tasks.get(task, -1) for task in ours]])
    return table, int((found >= 0).sum())


def new_table(keys: list[str], model: ModelConfig) -> PuzzleEmbedding:
    """An ID table for rows with these keys, untrained."""
    return PuzzleEmbedding(len(keys), model.id_length, model.shared_id_length, number_tasks(keys))


def find_task(key: str) -> str:
    """The task of a row's key."""
    return key.partition(KEY_SEPARATOR)[0]


def number_tasks(keys: list[str]) -> Tensor:
    """The task of each row (rows,), numbered in the order of the keys."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(find_task(key), len(numbers)) for key in keys], dtype=torch.int64)


def _upcast(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _group_keys(keys: list[str]) -> dict[str, list[int]]:
    """Rows by task; a task's rows must stand together, or reading them back would change their order."""
    groups: dict[str, list[int]] = {}
    last = None
    task_ids, numbers = parse_puzzle_keys(keys)
    for task, number in zip(task_ids, numbers.tolist(), strict=True):
        if task != last and task in groups:
            raise UserError(f"the ID rows of task {task} do not stand together", "sort the rows by task")
        groups.setdefault(task, []).append(number)
        last = task
    return groups


def fingerprint(trained: Checkpoint) -> str:
    """SHA-256 of what predicts: the network's settings, its weights, and the ID rows with their keys."""
    digest = sha256(json.dumps([trained.config["model"], trained.keys], sort_keys=True).encode())
    for name, tensor in sorted((trained.best_weights() | _id_tensors(trained)).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _id_tensors(trained: Checkpoint) -> dict[str, torch.Tensor]:
    return {"ids" if name == "rows" else f"ids.{name}": rows for name, rows in trained.id_tensors().items()}
