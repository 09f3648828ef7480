"""A checkpoint's model on a device, in the precision and with the attention that its settings ask for."""

from typing import Literal

import numpy as np
import torch

from augment import PuzzleSet
from augment.errors import UserError
from pipeline.checkpoints.checkpoint import Checkpoint, match_rows
from pipeline.config.run_config import TrainSettings
from solver.data.puzzle_ids import check_draws, find_rows
from solver.model.model import RecursiveModel
from solver.model.packing import make_layout, varlen_attn
from solver.model.puzzle_embedding import PuzzleEmbedding

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


VARLEN_ERROR = 0.03
"""How far varlen attention may be from the padded one in half precision, on values of size 1."""


def load_weights(model: RecursiveModel, checkpoint: Checkpoint, name: str) -> None:
    """Copy a checkpoint's best weights into the model; ValueError naming what does not fit."""
    try:
        model.load_state_dict(checkpoint.best_weights())
    except RuntimeError as error:
        lines = "\n".join(str(error).splitlines()[1:4])
        raise UserError(f"{name}: its weights do not fit the model of this config:\n{lines}") from None


def choose_precision(name: Literal["auto", "fp32", "bf16", "fp16", "fp64"], device: torch.device) -> torch.dtype:
    """What to compute in; "auto": bf16 where CUDA has it, fp16 on older CUDA (T4), float32 elsewhere."""
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def prepare_model(model: RecursiveModel, table: PuzzleEmbedding, settings: TrainSettings, device: torch.device) -> str:
    """Put a model and its ID table on the device, in the precision and with the attention chosen; says which.

    The model is told by what loss its logits are trained.
    """
    model.precision = choose_precision(settings.precision, device)
    kept = torch.float64 if model.precision == torch.float64 else torch.float32
    model.to(device, kept)
    table.to(device, kept)
    model.loss = settings.loss
    model.varlen = choose_varlen(settings.attention, model, device)
    by_itself = device.type == "cuda" and not model.config.recursion.settles  # its gradient needs a graph twice
    compiled = by_itself if settings.compile is None else settings.compile
    if compiled:
        model.compile_blocks()
    attention = ("varlen" if model.varlen else "padded") + " attention"
    where = "cpu" if device.type == "cpu" else device  # accelerate numbers the CPU of several processes
    return f"{str(model.precision).removeprefix('torch.')} on {where}, {attention}{', compiled' if compiled else ''}"


def choose_varlen(name: Literal["auto", "varlen", "padded"], model: RecursiveModel, device: torch.device) -> bool:
    """Whether to attend by torch's varlen kernel; "auto": where it is there and agrees with padded attention."""
    if name == "padded" or model.config.mixer == "mlp":
        return False
    works = varlen_works(model.config.heads, model.config.hidden // model.config.heads, model.precision, device)
    if name == "varlen" and not works:
        raise UserError(
            f"train.attention=varlen: torch {torch.__version__} cannot do it in {model.precision} on {device}",
            "leave it at auto",
        )
    return works


def on_cuda(device: torch.device) -> bool:
    """Whether the device is an NVIDIA (or ROCm) GPU."""
    return device.type == "cuda"


def varlen_works(heads: int, head_size: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Try torch's kernel on two short examples, forward and backward, and compare it with padded attention."""
    if varlen_attn is None or not on_cuda(device) or dtype not in (torch.bfloat16, torch.float16):
        return False
    positions_BS = torch.tensor([[0, 1, 2, -1, -1], [0, 1, 2, 3, 4]], device=device)
    angles = torch.ones(5, head_size, device=device)
    qkv = torch.randn(8, 3, heads, head_size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    results = []
    for varlen in (True, False):
        layout = make_layout(positions_BS, np.arange(2), angles, angles, varlen)
        given = qkv.clone().requires_grad_()
        try:
            mixed = layout.attend(given[:, :2], given[:, 2])
            mixed.float().square().sum().backward()
        except (RuntimeError, TypeError):
            return False
        results.append((mixed.detach(), given.grad))
    errors = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(*results, strict=True)]
    return max(errors) < VARLEN_ERROR


def load_model(checkpoint: Checkpoint, puzzle_set: PuzzleSet) -> tuple[RecursiveModel, PuzzleEmbedding]:
    """The checkpoint's model with averaged weights, and the ID rows of the set's puzzles; ValueError where they lack.

    The set must be of the kind that the checkpoint's puzzles.ids needs.
    """
    config = checkpoint.run_config
    check_draws(puzzle_set, config.puzzles.ids, config.puzzles.fixed_colours)
    keys, rows = find_rows(puzzle_set, config.puzzles.ids)
    table, _ = match_rows(checkpoint, keys)
    known = set(checkpoint.keys)
    unknown = int(np.array([key not in known for key in keys])[rows].sum())
    if unknown:
        raise UserError(
            f"{unknown} of {len(puzzle_set)} puzzles have no ID row in the checkpoint: "
            "predict the puzzle set it was trained on, or train from it on this set first (--checkpoint)"
        )
    model = RecursiveModel(config.model)
    load_weights(model, checkpoint, "the checkpoint")
    return model, table
