"""Handles failed training steps: saves batch and weights to reproduce them, and builds the error messages."""

from pathlib import Path

from augment.errors import UserError
from augment.storage import new_folder
from pipeline.checkpoints.tensor_files import WEIGHTS, save_tensors
from pipeline.runtime.exit_codes import OutOfMemoryError
from pipeline.runtime.system_errors import first_line
from solver.training.deep_supervision import carry_tensors
from solver.training.learner import Learner
from solver.training.step_result import NotFiniteError


def save_failure(error: NotFiniteError, learner: Learner, run: Path) -> Path:
    """Save what reproduces the failed step in this process: its batch slots, their ID vectors, and the weights before.

    Args:
        error: the error of the step.
        learner: still has the weights from before the step.
        run: the run folder, in which failed_step_N/process_K is written.

    Returns:
        The folder that was written.
    """
    folder = run / f"failed_step_{error.step:07d}" / f"process_{learner.processes.index}"
    slots = carry_tensors(error.carry) | {"ids": learner.table.weights_PI[error.carry.batch.puzzles_B]}
    with new_folder(folder, replace=True) as unfinished:
        for name, tensors in {"slots": slots, "model": learner.model.state_dict()}.items():
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_tensors(plain, unfinished / f"{name}.safetensors")
    return folder


def explain(error: Exception, last_step: int | None, folder: Path | None = None) -> UserError:
    """Return the error that ends training after a failed step.

    Args:
        error: the error of the step: not finite, or out of memory.
        last_step: the step of the last checkpoint, None if there is none.
        folder: where `save_failure` saved the step, if it did.
    """
    checkpoint = _describe_last(last_step)
    if isinstance(error, NotFiniteError):
        return UserError(
            f"{error}; its batch and the weights before it are in {folder}, and {checkpoint}",
            "lower train.lr, or try train.precision=fp32, in a new --run-dir that starts from that --checkpoint",
        )
    return OutOfMemoryError(
        f"out of memory, with nothing left to split ({first_line(error)}); {checkpoint}",
        "free memory, use more processes, or train a smaller model, board or puzzle set",
    )


def check_weights(learner: Learner, last_step: int | None) -> None:
    """Check the weights before they are saved.

    Args:
        learner: with the weights, their average and the ID table.
        last_step: the step of the last checkpoint, None if there is none.

    Raises:
        UserError: in all processes, if they no longer hold the same weights, or weights that no checkpoint may have.
            An update can overflow although its gradients are finite.
    """
    checkpoint = _describe_last(last_step)
    if len({int(bits) for bits in learner.processes.gather(learner.fingerprint())}) > 1:
        raise UserError(
            f"step {learner.steps}: the processes no longer hold the same weights; {checkpoint}",
            "resume from it on GPUs of one kind, with one version of torch",
        )
    tensors = learner.tensors()
    weights = [tensor for part in WEIGHTS for tensor in tensors.get(part, {}).values()]
    if not all(bool(tensor.isfinite().all()) for tensor in weights):
        raise UserError(
            f"step {learner.steps}: weights are no longer finite; {checkpoint}",
            "lower train.lr and train.id_lr, or start from other weights, in a new --run-dir",
        )


def _describe_last(last_step: int | None) -> str:
    if last_step is None:
        return "no checkpoint was written yet"
    return f"the last checkpoint, of step {last_step}, is intact"
