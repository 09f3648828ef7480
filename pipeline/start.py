"""Before the first step: a learner from scratch or from a checkpoint, on its device and in its precision.

In: a config, the keys of a puzzle set, perhaps a checkpoint to start from. Out: a learner.
"""

from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint, load_checkpoint, match_rows, new_table
from pipeline.config import RunConfig, TrainSettings, build_config
from pipeline.rundir import Console
from solver.embedding import IdTable
from solver.layout import make_layout, varlen_attn
from solver.learner import Learner
from solver.learner_config import LearnerConfig
from solver.model import RecursiveModel
from solver.processes import Processes

SAME_NETWORK = (
    *("hidden", "heads", "expansion", "inner_multiple", "layers", "mixer", "id_slots", "id_length", "vocabulary"),
    *("rope_theta", "rms_epsilon", "recursion.networks", "recursion.layers", "recursion.latents", "mlp"),
    *("recursion.noisy", "learns_noise", "symbols", "symbol_heads", "positions", "transform_vectors"),
)
"""Model settings that must be those of the checkpoint that training starts from."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
VARLEN_ERROR = 0.03
"""How far varlen attention may be from the padded one in half precision, on values of size 1."""


def make_learner(
    config: RunConfig,
    keys: list[str],
    device: torch.device,
    run: Console,
    start: Checkpoint | None,
    processes: Processes | None = None,
) -> Learner:
    """A learner from scratch, or from the checkpoint `start`: its weights, and its ID rows matched by key."""
    torch.manual_seed(config.seed)
    model, table = RecursiveModel(config.model), new_table(keys, config.model)
    if start:
        load_weights(model, start, str(config.checkpoint))
        table, matched = match_rows(start, keys)
        run.log(f"ID rows: {matched} matched by key, {len(keys) - matched} new ones start at the mean of the trained")
    said = prepare_model(model, table, config.train, device)
    run.log(f"training in {said}")
    return Learner(model, table, learner_config(config, model.precision == torch.float16), processes)


def start_from(config: RunConfig) -> Checkpoint | None:
    """The checkpoint that training starts from, if any; ValueError where its network is another one.

    Cycles, steps, exploration, canvas and board may change from one training to the next.
    """
    if config.checkpoint is None:
        return None
    checkpoint = load_checkpoint(Path(config.checkpoint))
    theirs, ours = build_config(checkpoint.config).model, config.model
    values = {name: (attrgetter(name)(theirs), attrgetter(name)(ours)) for name in SAME_NETWORK}
    other = [f"model.{name} is {old!r} there and {new!r} here" for name, (old, new) in values.items() if old != new]
    if other:
        raise ValueError(f"{config.checkpoint} holds another network: {'; '.join(other)}; set them alike with --set")
    return checkpoint


def load_weights(model: RecursiveModel, checkpoint: Checkpoint, name: str) -> None:
    """Copy a checkpoint's best weights into the model; ValueError naming what does not fit."""
    try:
        model.load_state_dict(checkpoint.best_weights())
    except RuntimeError as error:
        lines = "\n".join(str(error).splitlines()[1:4])
        raise ValueError(f"{name}: its weights do not fit the model of this config:\n{lines}") from None


def learner_config(config: RunConfig, scale_loss: bool = False) -> LearnerConfig:
    """The settings that the learner needs."""
    given = config.train
    named_alike = {field.name for field in fields(LearnerConfig)} & TrainSettings.model_fields.keys()
    alike = {name: getattr(given, name) for name in named_alike}
    return LearnerConfig(
        **alike, total_steps=given.steps, ema_decay=given.average, seed=config.seed, scale_loss=scale_loss
    )


def choose_precision(name: Literal["auto", "fp32", "bf16", "fp16", "fp64"], device: torch.device) -> torch.dtype:
    """What to compute in; "auto": bf16 where CUDA has it, fp16 on older CUDA (T4), float32 elsewhere."""
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def prepare_model(model: RecursiveModel, table: IdTable, settings: TrainSettings, device: torch.device) -> str:
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
        raise ValueError(
            f"train.attention=varlen: torch {torch.__version__} cannot do it in {model.precision} on {device}; "
            "leave it at auto"
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
        layout, given = make_layout(positions_BS, np.arange(2), angles, angles, varlen), qkv.clone().requires_grad_()
        try:
            mixed = layout.attend(given[:, :2], given[:, 2])
            mixed.float().square().sum().backward()
        except (RuntimeError, TypeError):
            return False
        results.append((mixed.detach(), given.grad))
    errors = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(*results, strict=True)]
    return max(errors) < VARLEN_ERROR
