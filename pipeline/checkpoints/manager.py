"""Manages the checkpoints that a run resumes from: asynchronous writing, retention, and loading of the newest.

RUN/checkpoints/step_0001000 has all files of a checkpoint (`pipeline.checkpoints.checkpoint`), and in addition

    optimizer.safetensors        the optimizers' state, "PARAMETER/STATE"
    random.safetensors           torch's random state
    slots_0000.safetensors ...   the batch slots of each process: data, steps and latents
    checkpoint.json, "training"  positions and counts, plain values

A thread writes it to `.step_0001000.unfinished`, computes the checksums, syncs it to disk and renames it. Every process
writes its own slots. The first process writes everything else, and waits for the files of the others.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from augment import Overlap, SeenTasks
from augment.errors import UserError
from augment.storage import sync
from pipeline.checkpoints.checkpoint import ABOUT, encode_labels, seal_checkpoint, unseal_checkpoint
from pipeline.checkpoints.step_folders import list_checkpoints, remove_checkpoint, set_aside, step_of
from pipeline.checkpoints.tensor_files import WEIGHTS, load_numbers, load_tensors, save_tensors
from pipeline.checkpoints.training_state import REMOVE, TrainingState
from pipeline.runtime.exit_codes import FULL, CheckpointError, DiskFullError

MARGIN = 1.05
"""Free disk space that is required before writing, in bytes per byte of the checkpoint."""
POLL_INTERVAL = 0.02
"""Seconds between two looks for a file of another process."""
FAILED = ".failed"
"""Suffix of the mark of the first process that a checkpoint will not be written, for other processes that wait."""
WRITER = "checkpoint writer"
"""The name of the writing thread."""


class CheckpointManager:
    """Writes a run's checkpoints and loads the newest one.

    Args:
        folder: RUN/checkpoints, shared by all processes.
        config, keys, seen, leaks: as in `pipeline.checkpoints.checkpoint.Checkpoint`.
        process, processes: the index of this process, and the number of processes.
        log: called with a warning for each damaged checkpoint that is renamed.
        keep: how many checkpoints are kept.
        patience: seconds that the first process waits for the files of the others.
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
        self._unfinished: Path | None = None
        self._error: Exception | None = None

    @property
    def last_step(self) -> int | None:
        """The step of the newest checkpoint, after waiting for a write in progress; None if there is none."""
        # The writing thread itself asks for it when it reports a full disk, and a thread cannot join itself.
        if self._thread not in (None, threading.current_thread()):
            self._thread.join()
        checkpoints = list_checkpoints(self.folder)
        return step_of(checkpoints[-1]) if checkpoints else None

    def save(self, state: TrainingState) -> None:
        """Copy the state and write it in the background, after waiting for the previous write of all processes.

        Raises:
            DiskFullError: if the disk is too full for this checkpoint, or was for the previous one.
        """
        self.wait_for_all()
        tensors = state.tensors if self.process == 0 else {}
        unfinished = self.folder / f".step_{state.step:07d}.unfinished"
        try:
            self._check_space([*tensors.values(), *state.slots * self.processes])
        except DiskFullError:
            self._give_up(unfinished)
            raise
        state = replace(
            state, tensors={name: _copy(named) for name, named in tensors.items()}, slots=[_copy(state.slots[0])]
        )
        self._unfinished = unfinished
        self._thread = threading.Thread(target=self._write, args=(state, unfinished), daemon=True, name=WRITER)
        self._thread.start()

    def wait(self) -> None:
        """Wait until this process's part of the last save is on disk, and raise its error if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error = self._error
            self._error = None
            raise error

    def wait_for_all(self) -> None:
        """Wait until the last save of all processes is on disk; raise the error of this process's part if it failed.

        The others look at the disk until the first process has written its files, which may take longer than the
        timeout of a collective operation. If it fails they return, and it raises the error.
        """
        self.wait()
        if self.process == 0 or self._unfinished is None:
            return
        failed = self._unfinished.with_suffix(FAILED)
        while self._unfinished.exists() and not failed.exists():
            time.sleep(POLL_INTERVAL)

    def tidy(self) -> None:
        """Remove unfinished checkpoints and rename damaged ones; call it in the first process before training.

        Only checkpoints newer than the newest intact one are checked and renamed.

        Raises:
            CheckpointError: if every checkpoint of the run is damaged.
        """
        for path in self.folder.glob(".*.unfinished"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(f".*{FAILED}"):
            path.unlink(missing_ok=True)
        checkpoints = list_checkpoints(self.folder)
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
                f"{self.folder}: no checkpoint of this run is intact",
                f"restore a copy, or remove the folder to train from the beginning.\n  {listed}",
            )
        for path, summary in damage.items():
            renamed = set_aside(path)
            self.log(f"{summary}; the checkpoint before it is used, and the damaged one is kept as {renamed.name}")

    def newest(self) -> TrainingState | None:
        """Load the newest checkpoint, None if there is none; call `tidy` before, in the first process."""
        checkpoints = list_checkpoints(self.folder)
        if not checkpoints:
            return None
        folder = checkpoints[-1]
        about = unseal_checkpoint(folder)
        if about.training is None:
            raise CheckpointError(
                f"{folder / ABOUT}: training is missing", "remove the folder, or name another with --run-dir"
            )
        names = [name.removesuffix(".safetensors") for name in about.files if name.endswith(".safetensors")]
        parts = {name: _load_part(folder, name) for name in names}
        slots = [parts.pop(name) for name in sorted(names) if name.startswith("slots_")]
        return TrainingState(about.step, parts, slots, about.training.model_dump())

    def _check_space(self, groups: list[dict[str, Tensor]]) -> None:
        if self.process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        size = sum(tensor.numel() * tensor.element_size() for group in groups for tensor in group.values())
        needed = MARGIN * size + sum(map(len, self.labels.values()))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise self._no_space(f"it needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free")

    def _no_space(self, reason: str) -> DiskFullError:
        step = self.last_step
        previous = "there is no earlier one" if step is None else f"the last one, of step {step}, is intact"
        return DiskFullError(
            f"{self.folder}: not enough disk space for a checkpoint: {reason}; {previous}",
            "free some space and run the same command again, which resumes from it, or set --run-dir to another disk",
        )

    def _write(self, state: TrainingState, unfinished: Path) -> None:
        """Write a checkpoint (runs in the thread); an error is stored, and the next `save` or `wait` raises it."""
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            self._write_slots(unfinished, state.slots[0])
            if self.process == 0:
                self._complete(unfinished, state)
        except Exception as error:
            self._error = error
            if isinstance(error, OSError) and error.errno in FULL:
                self._error = self._no_space(os.strerror(error.errno))
            self._give_up(unfinished)

    def _give_up(self, unfinished: Path) -> None:
        """In the first process, remove what was written, and leave a mark for the others that no more will be."""
        if self.process == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        if self.process == 0 and self.processes > 1:
            with suppress(OSError):  # the disk may be full
                unfinished.with_suffix(FAILED).touch()

    def _write_slots(self, unfinished: Path, slots: dict[str, Tensor]) -> None:
        # The first process waits for the final name, so the file must be complete when it gets that name.
        temporary = unfinished / f".slots_{self.process:04d}.safetensors"
        final = unfinished / f"slots_{self.process:04d}.safetensors"
        save_tensors(slots, temporary)
        sync(temporary)
        temporary.rename(final)

    def _complete(self, unfinished: Path, state: TrainingState) -> None:
        for name, group in state.tensors.items():
            save_tensors(group, unfinished / f"{name}.safetensors")
        for name, text in self.labels.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        self._wait_for_slots(unfinished)
        seal_checkpoint(unfinished, state.step, self.config, self.leaks, processes=self.processes, training=state.plain)
        # Synced before the rename: after a power failure the final name must never stand for missing data.
        for path in [*unfinished.iterdir(), unfinished]:
            sync(path)
        self._put_in_place(unfinished, self.folder / f"step_{state.step:07d}")
        for old in list_checkpoints(self.folder)[: -self.keep]:
            remove_checkpoint(old)

    def _wait_for_slots(self, unfinished: Path) -> None:
        """Wait until every process has written its slots; raise a UserError after `patience` seconds."""
        end = time.monotonic() + self.patience
        while missing := [n for n in range(self.processes) if not (unfinished / f"slots_{n:04d}.safetensors").exists()]:
            if time.monotonic() > end:
                raise UserError(
                    f"{unfinished}: process {missing[0]} of {self.processes} has not written its slots within "
                    f"{self.patience:.0f} s",
                    "all processes must see the same RUN folder",
                )
            time.sleep(POLL_INTERVAL)

    def _put_in_place(self, unfinished: Path, place: Path) -> None:
        """Rename the finished folder, unless an intact checkpoint of this step exists.

        An existing one has the same contents, and keeping it means that no intact checkpoint is ever removed first.
        """
        if place.exists():
            try:
                unseal_checkpoint(place)
            except ValueError:
                remove_checkpoint(place)
        if place.exists():
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(place)
            sync(place.parent)


def _load_part(folder: Path, name: str) -> dict[str, Tensor]:
    """Load one file of the training state; that of weights must hold finite floats."""
    file = folder / f"{name}.safetensors"
    return load_numbers(file, REMOVE) if name in WEIGHTS else load_tensors(file)


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # copy=True: on a CPU, training would otherwise change the tensors while the thread writes them.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
