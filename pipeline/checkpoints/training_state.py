"""The state that training resumes from, in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.runtime.exit_codes import CheckpointError
from solver.training.device_memory import ran_out_of_memory

REMOVE = "remove this step's folder to resume from an earlier one, or name another --run-dir"
"""What to do about a training state that cannot be resumed from."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that training needs to resume.

    Attributes:
        step: optimizer steps taken.
        tensors: the tensors that are equal in all processes, by file and name.
        slots: batch slots. When saving, those of this process only (one element); when loading, one element for each
            process that saved, in order.
        plain: JSON values.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    slots: list[dict[str, Tensor]]
    plain: dict[str, Any]


@contextmanager
def state_errors(folder: Path, step: int) -> Iterator[None]:
    """Turn errors of taking over a training state into a CheckpointError.

    The files are those that were written, as they have their checksums. So another version wrote them, or they were
    altered and sealed again.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, RuntimeError) and ran_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder}: the training state of step {step} does not fit this run ({type(error).__name__}: {reason})",
            REMOVE,
        ) from error
