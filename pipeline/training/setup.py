"""Before the first step: a learner from scratch or from a checkpoint, on its device and in its precision.

In: a config, the keys of a puzzle set, perhaps a checkpoint to start from. Out: a learner.
"""

from dataclasses import fields
from operator import attrgetter
from pathlib import Path

import torch

from augment.errors import UserError
from pipeline.checkpoints.checkpoint import Checkpoint, load_checkpoint, match_rows, new_table, read_checkpoint_header
from pipeline.checkpoints.load_model import (
    load_weights,
    prepare_model,
)
from pipeline.config.run_config import RunConfig, TrainSettings, build_config
from pipeline.runtime.console import Console
from solver.model.model import RecursiveModel
from solver.training.learner import Learner
from solver.training.learner_config import LearnerConfig
from solver.training.process_group import ProcessGroup

SAME_NETWORK = (
    *("hidden", "heads", "expansion", "inner_multiple", "layers", "mixer", "id_slots", "id_length", "vocabulary"),
    *("rope_theta", "rms_epsilon", "recursion.networks", "recursion.layers", "recursion.latents", "mlp"),
    *("recursion.noisy", "learns_noise", "symbols", "symbol_heads", "positions", "transform_vectors"),
)
"""Model settings that must be those of the checkpoint that training starts from."""


def make_learner(
    config: RunConfig,
    keys: list[str],
    device: torch.device,
    run: Console,
    start: Checkpoint | None,
    processes: ProcessGroup | None = None,
) -> Learner:
    """A learner from scratch, or from the checkpoint `start`: its weights, and its ID rows matched by key."""
    torch.manual_seed(config.seed)
    model = RecursiveModel(config.model)
    table = new_table(keys, config.model)
    if start:
        load_weights(model, start, str(config.checkpoint))
        table, matched = match_rows(start, keys)
        run.log(f"ID rows: {matched} matched by key, {len(keys) - matched} new ones start at the mean of the trained")
    said = prepare_model(model, table, config.train, device)
    run.log(f"training in {said}")
    return Learner(model, table, learner_config(config, model.precision == torch.float16), processes)


def load_start(config: RunConfig) -> Checkpoint | None:
    """Load the checkpoint that training starts from, None where it starts from scratch; see `check_start`."""
    check_start(config)
    return load_checkpoint(Path(config.checkpoint)) if config.checkpoint else None


def check_start(config: RunConfig) -> None:
    """Check by its header that training can start from the config's checkpoint, where it names one.

    Cycles, steps, exploration, canvas and board may change from one training to the next.

    Raises:
        UserError: where the checkpoint holds another network.
    """
    if config.checkpoint is None:
        return
    theirs = build_config(read_checkpoint_header(Path(config.checkpoint)).config).model
    ours = config.model
    values = {name: (attrgetter(name)(theirs), attrgetter(name)(ours)) for name in SAME_NETWORK}
    other = [f"model.{name} is {old!r} there and {new!r} here" for name, (old, new) in values.items() if old != new]
    if other:
        raise UserError(f"{config.checkpoint} holds another network: {'; '.join(other)}", "set them alike with --set")


def learner_config(config: RunConfig, scale_loss: bool = False) -> LearnerConfig:
    """The settings that the learner needs."""
    given = config.train
    named_alike = {field.name for field in fields(LearnerConfig)} & TrainSettings.model_fields.keys()
    alike = {name: getattr(given, name) for name in named_alike}
    return LearnerConfig(
        **alike, total_steps=given.steps, ema_decay=given.average, seed=config.seed, scale_loss=scale_loss
    )
