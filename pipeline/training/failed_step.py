"""A training step that failed: its batch and weights are kept to reproduce it, and the error says what to do."""

from pathlib import Path

from safetensors.torch import save_file

from augment.errors import UserError
from augment.storage import new_folder
from pipeline.runtime.exit_codes import OutOfMemoryError
from solver.training.deep_supervision import carry_tensors
from solver.training.learner import Learner
from solver.training.step_result import NotFiniteError


def save_failure(error: NotFiniteError, learner: Learner, run: Path) -> Path:
    """Write this process's slots of the failed step, their ID vectors and the weights before it; returns the folder."""
    folder = run / f"failed_step_{error.step:07d}" / f"process_{learner.processes.index}"
    slots = carry_tensors(error.carry, learner.model) | {"ids": learner.table.weights_PI[error.carry.batch.puzzles_B]}
    with new_folder(folder, replace=True) as unfinished:
        for name, tensors in {"slots": slots, "model": learner.model.state_dict()}.items():
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(plain, unfinished / f"{name}.safetensors")
    return folder


def explain(error: Exception, last_step: int | None, folder: Path | None = None) -> UserError:
    """The error to end training with: what went wrong in a step, what is kept, and what to do about it."""
    kept = (
        "no checkpoint was written yet" if last_step is None else f"the last checkpoint, of step {last_step}, is whole"
    )
    if isinstance(error, NotFiniteError):
        return UserError(
            f"{error}; its batch and the weights before it are in {folder}, and {kept}",
            "lower train.lr, or try train.precision=fp32, in a new --run-dir that starts from that --checkpoint",
        )
    return OutOfMemoryError(
        f"out of memory, with nothing left to split ({str(error).splitlines()[0][:200]}); {kept}",
        "free memory, take more processes, or train a smaller model, board or puzzle set",
    )
