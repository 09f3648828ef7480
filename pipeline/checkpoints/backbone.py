"""Writes backbones: a network's weights without the puzzle embeddings, from which training on other puzzles starts.

A backbone is made from a checkpoint. It is a checkpoint folder itself (`pipeline.checkpoints.checkpoint`) with the
averaged weights in bf16, an empty ID table, and the puzzle embedding from which new ones start. Its model card,
README.md, is not part of the checksums, so that scores can be added later.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from augment import SeenTasks
from pipeline.checkpoints.checkpoint import Checkpoint, save_checkpoint
from pipeline.runtime.provenance import VERSIONS_FILE, read_versions, versions
from pipeline.runtime.run_folder import read_metrics
from pipeline.time_budget import format_duration

HEADING = """# A backbone

Trained weights of a Tiny Recursive Model, and the puzzle embedding (ID row) from which new puzzles start: the mean of
those that it was trained with. It has no ID rows of its own, so it must be trained on tasks before it can predict them:

    python -m pipeline solve SOURCE --recipe kaggle --checkpoint THIS_FOLDER --budget 11h50m

"""


def write_backbone(checkpoint: Checkpoint, folder: Path, card: Mapping[str, str], replace_old: bool = False) -> int:
    """Write a checkpoint as a backbone; a folder that holds this backbone is kept as it is.

    Args:
        checkpoint: the trained checkpoint.
        folder: the folder to create.
        card: lines of the model card that the checkpoint does not contain: data, seconds, versions, scores ...
        replace_old: whether to replace another folder.

    Returns:
        The total size of the files, in bytes.

    Raises:
        UserError: if the folder holds something else.
    """
    row = _mean_of_trained(checkpoint.id_rows) if checkpoint.start_row is None else checkpoint.start_row
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in checkpoint.best_weights().items()}
    stripped: dict[str, Any] = {"id_rows": row.new_zeros(0, len(row)), "keys": [], "start_row": row}
    if (shared := checkpoint.shared_rows) is not None:
        start = checkpoint.start_shared if checkpoint.start_shared is not None else _mean_of_trained(shared)
        stripped |= {"shared_rows": shared[:0], "start_shared": start}
    lines = [f"- {name}: {value}\n" for name, value in {**_facts(checkpoint), **card}.items()]
    backbone = replace(checkpoint, weights=weights, average=None, **stripped)
    save_checkpoint(folder, backbone, HEADING + "".join(lines), keep_same=not replace_old)
    return sum(file.stat().st_size for file in folder.iterdir())


def _mean_of_trained(id_rows: Tensor) -> Tensor:
    """Return the mean of the trained rows, (size,).

    Rows start at zero and change at their first training step, so a row of zeros was never trained.
    """
    return id_rows.sum(dim=0) / max(1, int(id_rows.any(dim=1).sum()))


def describe_training(run: Path) -> dict[str, str]:
    """Read the card's lines on a run from its folder: the training time, if it was logged, and the versions used."""
    metrics = read_metrics(run)
    duration = {"training time": format_duration(metrics[-1]["seconds"])} if metrics else {}
    made = read_versions(run) if (run / VERSIONS_FILE).exists() else versions()
    return duration | {"made by": describe_versions(made)}


def describe_versions(made: Mapping[str, Any]) -> str:
    """Return the commit, the versions of Python and libraries, and the machine as one line of text."""
    values = {name: made[name] for name in ("commit", "python", "torch", "numpy", "machine", "cores") if made.get(name)}
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _facts(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the card's lines on the network and its training, by label."""
    config = checkpoint.run_config
    count = sum(tensor.numel() for tensor in checkpoint.weights.values())
    model = config.model
    steps = checkpoint.step
    rows = len(checkpoint.id_rows)
    return {
        "network": f"{count:,} values; hidden {model.hidden}, {model.layers} layers, {model.heads} heads, "
        f"{model.mixer}, {model.h_cycles} x {model.l_cycles} cycles, {model.max_steps} supervision steps",
        "training": f"{steps:,} steps of {config.train.batch_size:,} examples, {rows:,} ID rows, seed {config.seed}; "
        "checkpoint.json has every setting",
        "trained on with test outputs": _describe_seen(checkpoint.seen),
    }


def _describe_seen(seen: SeenTasks) -> str:
    if not seen.complete and not len(seen):
        return "not known"  # such as a converted checkpoint, whose training data are not recorded
    known = "" if seen.complete else ", and others that are not known"
    return f"{len(seen):,} tasks{known}; seen.json recognises them, and scores on them are marked"
