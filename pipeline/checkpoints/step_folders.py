"""The folders of a run's checkpoints: RUN/checkpoints/step_N, and hidden ones that are unfinished or being removed."""

import shutil
from itertools import chain, count
from pathlib import Path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints that training wrote to RUN/checkpoints, oldest first.

    The exact name is required: copies that a user keeps in the same folder must be neither counted nor pruned.
    """
    return sorted((path for path in folder.glob("step_*") if path.name[5:].isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step in the name of a checkpoint's folder."""
    return int(checkpoint.name.removeprefix("step_"))


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint to the first free name; one of the same step may have been renamed earlier."""
    names = chain([f"damaged_{folder.name}"], (f"damaged_{folder.name}_{number}" for number in count(2)))
    free_path = next(path for path in map(folder.with_name, names) if not path.exists())
    return folder.rename(free_path)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint. It is renamed first, so that a partial removal is not taken for a damaged checkpoint."""
    renamed = folder.with_name(f".{folder.name}.old.unfinished")
    folder.rename(renamed)
    shutil.rmtree(renamed, ignore_errors=True)
