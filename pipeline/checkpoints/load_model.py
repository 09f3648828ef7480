"""Loads a checkpoint's model onto a device, with the precision and attention kernel that its settings choose."""

from typing import Literal

import numpy as np
import torch

from augment import PuzzleSet
from augment.errors import UserError
from pipeline.checkpoints.attention_choice import choose_attention
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.compilation import find_compile_error
from pipeline.checkpoints.id_table import match_rows
from pipeline.config.run_config import TrainSettings
from pipeline.runtime.console import Console
from solver.data.puzzle_ids import check_draws, find_rows
from solver.model.model import RecursiveModel
from solver.model.puzzle_embedding import PuzzleEmbedding

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


def load_weights(model: RecursiveModel, checkpoint: Checkpoint, name: str) -> None:
    """Copy a checkpoint's best weights into the model.

    Args:
        model: changed in place.
        checkpoint: whose `best_weights` are copied.
        name: what an error message calls the checkpoint.

    Raises:
        UserError: naming the tensors that are missing or have another shape.
    """
    try:
        model.load_state_dict(checkpoint.best_weights())
    except RuntimeError as error:
        lines = "\n".join(str(error).splitlines()[1:4])
        raise UserError(f"{name}: its weights do not fit the model of this config:\n{lines}") from None


def choose_precision(name: Literal["auto", "fp32", "bf16", "fp16", "fp64"], device: torch.device) -> torch.dtype:
    """Return the data type to compute in; "auto": bf16 on CUDA from 8.0, fp16 on older CUDA (T4), float32 elsewhere."""
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def prepare_model(
    model: RecursiveModel,
    table: PuzzleEmbedding,
    settings: TrainSettings,
    device: torch.device,
    run: Console | None = None,
) -> str:
    """Move a model and its ID table to the device; set the model's precision, loss, attention kernel and compilation.

    A compilation or an attention kernel that does not work on this machine is left out, and reported.

    Args:
        model, table: changed in place.
        settings: the choices.
        device: where to compute.
        run: where it is reported what is left out.

    Returns:
        A description of these choices for the log.
    """
    model.precision = choose_precision(settings.precision, device)
    # Weights stay in float32 (float64) and are cast where they are used: half precision would lose small updates.
    weights_dtype = torch.float64 if model.precision == torch.float64 else torch.float32
    model.to(device, weights_dtype)
    table.to(device, weights_dtype)
    model.loss = settings.loss
    attention = choose_attention(settings.attention, model, device, run)
    # The implicit gradient of an equilibrium goes through a graph twice, which compiled blocks do not support.
    default = device.type == "cuda" and not model.config.recursion.settles
    compiled = default if settings.compile is None else settings.compile
    if compiled and (reason := find_compile_error(model)):
        compiled = False
        if run:
            run.warn(f"torch.compile does not work here ({reason}): the model runs uncompiled, which is slower")
    if compiled:
        model.compile_blocks()
    where = "cpu" if device.type == "cpu" else device  # with several processes accelerate adds an index
    return f"{str(model.precision).removeprefix('torch.')} on {where}, {attention}{', compiled' if compiled else ''}"


def load_model(checkpoint: Checkpoint, puzzle_set: PuzzleSet) -> tuple[RecursiveModel, PuzzleEmbedding]:
    """Build the checkpoint's model with its averaged weights, and an ID table of the rows of the set's puzzles.

    Raises:
        UserError: if the set was not built as the checkpoint's puzzles.ids requires, or if a puzzle has no ID row.
    """
    config = checkpoint.run_config
    check_draws(puzzle_set, config.puzzles.ids, config.puzzles.fixed_colours)
    keys, rows = find_rows(puzzle_set, config.puzzles.ids)
    table, _ = match_rows(checkpoint, keys)
    trained_keys = set(checkpoint.keys)
    unknown = int(np.array([key not in trained_keys for key in keys])[rows].sum())
    if unknown:  # an untrained row would give wrong predictions without any sign of it
        raise UserError(
            f"{unknown} of {len(puzzle_set)} puzzles have no ID row in the checkpoint",
            "predict the puzzle set it was trained on, or train from it on this set first (--checkpoint)",
        )
    model = RecursiveModel(config.model)
    load_weights(model, checkpoint, "the checkpoint")
    return model, table
