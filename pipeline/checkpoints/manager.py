"""A run's training states in, the newest whole one out: the checkpoints that a run goes on from.

RUN/checkpoints/step_0001000 holds all that a checkpoint does (`pipeline.checkpoints.checkpoint`), and besides

    optimizer.safetensors        the optimizers' state, "PARAMETER/STATE"
    random.safetensors           torch's random state
    slots_0000.safetensors ...   the batch slots of each process: data, steps and latents
    checkpoint.json, "training"  positions and counts, plain values

It is written in the background to `.step_0001000.unfinished`, synced, sealed and renamed. Every process writes its own
slots; the first writes the rest, and waits for the others' files.
"""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from augment import Overlap, SeenTasks
from augment.errors import UserError
from augment.storage import sync
from pipeline.checkpoints.checkpoint import encode_labels, load_tensors, seal_checkpoint, unseal_checkpoint
from pipeline.runtime.exit_codes import CheckpointError, DiskFullError

MARGIN = 1.05
"""Free space asked for, per byte to be written."""
WRITER = "checkpoint writer"
"""The name of the thread that writes."""


@dataclass(frozen=True)
class TrainingState:
    """All that training needs to go on.

    tensors: what every process holds alike, by file and name
    slots: when saved, this process's own alone; when loaded, those of each process that saved, in order
    plain: JSON values
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    slots: list[dict[str, Tensor]]
    plain: dict[str, Any]


class CheckpointManager:
    """Writes a run's checkpoints and finds the newest.

    Args:
        folder: RUN/checkpoints, shared by all processes.
        config, keys, seen, leaks: what a checkpoint says of its run (`pipeline.checkpoints.checkpoint`).
        process, processes: which process this is, of how many.
        log: called with a warning about each checkpoint that was set aside.
        keep: so many checkpoints stay.
        patience: seconds that the first process waits for the others' files.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        keys: list[str],
        seen: SeenTasks,
        leaks: Sequence[Overlap],
        *,
        process: int = 0,
        processes: int = 1,
        log: Callable[[str], None] = print,
        keep: int = 2,
        patience: float = 600.0,
    ):
        self.folder = folder
        self.config = config
        self.leaks = leaks
        self.process = process
        self.processes = processes
        self.log = log
        self.keep = keep
        self.patience = patience
        self.labels = encode_labels(keys, seen) if process == 0 else {}
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def last_step(self) -> int | None:
        """The step of the newest checkpoint; one that is being written is waited for, one in place is whole."""
        if self._thread not in (None, threading.current_thread()):
            self._thread.join()
        checkpoints = self._list()
        return _step_of(checkpoints[-1]) if checkpoints else None

    def save(self, state: TrainingState) -> None:
        """Copy the state and write it in the background, once the one before is written.

        Raises:
            DiskFullError: where the disk has no room for it, or had none for the one before.
        """
        self.wait()
        tensors = state.tensors if self.process == 0 else {}
        self._check_space([*tensors.values(), *state.slots * self.processes])
        state = replace(
            state, tensors={name: _copy(named) for name, named in tensors.items()}, slots=[_copy(state.slots[0])]
        )
        self._thread = threading.Thread(target=self._write, args=(state,), daemon=True, name=WRITER)
        self._thread.start()

    def wait(self) -> None:
        """Until the last save is on disk; raises what went wrong there."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error = self._error
            self._error = None
            raise error

    def tidy(self) -> None:
        """Before training, in the first process: remove what a kill left half written, set damaged checkpoints aside.

        Raises:
            CheckpointError: where every checkpoint of the run is damaged.
        """
        for path in self.folder.glob(".*.unfinished"):
            shutil.rmtree(path, ignore_errors=True)
        checkpoints = self._list()
        damage = {}
        for path in reversed(checkpoints):
            try:
                unseal_checkpoint(path)
                break
            except CheckpointError as error:
                damage[path] = error.summary
        if checkpoints and len(damage) == len(checkpoints):
            listed = "\n  ".join(damage.values())
            raise CheckpointError(
                f"{self.folder}: no checkpoint of this run is whole",
                f"put back a copy, or remove the folder to train from the beginning.\n  {listed}",
            )
        for path, said in damage.items():
            aside = _set_aside(path)
            self.log(f"{said}; the checkpoint before it is used, and it is kept as {aside.name}")

    def newest(self) -> TrainingState | None:
        """The newest checkpoint, None where there is none; call `tidy` first, in the first process."""
        checkpoints = self._list()
        if not checkpoints:
            return None
        folder = checkpoints[-1]
        about = unseal_checkpoint(folder)
        names = [name.removesuffix(".safetensors") for name in about["files"] if name.endswith(".safetensors")]
        parts = {name: load_tensors(folder / f"{name}.safetensors") for name in names}
        slots = [parts.pop(name) for name in sorted(names) if name.startswith("slots_")]
        return TrainingState(about["step"], parts, slots, about["training"])

    def _list(self) -> list[Path]:
        """Whole checkpoints, oldest first; copies that a user put beside them are not ours to count or prune."""
        return sorted((path for path in self.folder.glob("step_*") if path.name[5:].isdecimal()), key=_step_of)

    def _check_space(self, groups: list[dict[str, Tensor]]) -> None:
        if self.process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        size = sum(tensor.numel() * tensor.element_size() for named in groups for tensor in named.values())
        needed = MARGIN * size + sum(map(len, self.labels.values()))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise self._no_space(f"it takes {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free")

    def _no_space(self, what: str) -> DiskFullError:
        kept = (
            "there is none before it" if self.last_step is None else f"the last one, of step {self.last_step}, is whole"
        )
        return DiskFullError(
            f"{self.folder}: no room for a checkpoint: {what}; {kept}",
            "free some space and give the same command again, which resumes from it, or name a --run-dir on another "
            "disk",
        )

    def _write(self, state: TrainingState) -> None:
        """In the background; an error is kept for the next `save` or `wait`."""
        unfinished = self.folder / f".step_{state.step:07d}.unfinished"
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            self._write_slots(unfinished, state.slots[0])
            if self.process == 0:
                self._complete(unfinished, state)
        except Exception as error:
            self._error = self._no_space(str(error)) if _is_full(error) else error
            if self.process == 0:
                shutil.rmtree(unfinished, ignore_errors=True)

    def _write_slots(self, unfinished: Path, slots: dict[str, Tensor]) -> None:
        part, whole = (unfinished / f"{start}slots_{self.process:04d}.safetensors" for start in (".", ""))
        save_file(slots, part)
        sync(part)
        part.rename(whole)

    def _complete(self, unfinished: Path, state: TrainingState) -> None:
        for name, named in state.tensors.items():
            save_file(named, unfinished / f"{name}.safetensors")
        for name, text in self.labels.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        self._wait_for_slots(unfinished)
        seal_checkpoint(unfinished, state.step, self.config, self.leaks, processes=self.processes, training=state.plain)
        for path in [*unfinished.iterdir(), unfinished]:
            sync(path)
        self._put_in_place(unfinished, self.folder / f"step_{state.step:07d}")
        for old in self._list()[: -self.keep]:
            _remove(old)

    def _wait_for_slots(self, unfinished: Path) -> None:
        """Until every process has written its slots."""
        end = time.monotonic() + self.patience
        while missing := [n for n in range(self.processes) if not (unfinished / f"slots_{n:04d}.safetensors").exists()]:
            if time.monotonic() > end:
                raise UserError(
                    f"{unfinished}: process {missing[0]} of {self.processes} has not written its slots within "
                    f"{self.patience:.0f} s",
                    "all processes must see the same RUN folder",
                )
            time.sleep(0.02)

    def _put_in_place(self, unfinished: Path, place: Path) -> None:
        """A whole checkpoint of this step that is there already holds the same, and is never taken away."""
        if place.exists():
            try:
                unseal_checkpoint(place)
            except ValueError:
                _remove(place)
        if place.exists():
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(place)
            sync(place.parent)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))


def _is_full(error: Exception) -> bool:
    """Whether the disk or a quota is; safetensors only says so in words."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint to the first free name; one of the same step may be there from before."""
    names = chain([f"damaged_{folder.name}"], (f"damaged_{folder.name}_{number}" for number in count(2)))
    place = next(place for place in map(folder.with_name, names) if not place.exists())
    return folder.rename(place)


def _remove(folder: Path) -> None:
    """Under another name first, so that what is half removed is not taken for a damaged checkpoint."""
    doomed = folder.with_name(f".{folder.name}.old.unfinished")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
