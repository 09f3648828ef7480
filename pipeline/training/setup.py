"""Creates the learner for a training run, from scratch or from a checkpoint, on its device and in its precision."""

from dataclasses import fields
from operator import attrgetter
from pathlib import Path

import torch

from augment.errors import UserError
from augment.storage import write_json
from pipeline.checkpoints.checkpoint import Checkpoint, CheckpointHeader, load_checkpoint, read_checkpoint_header
from pipeline.checkpoints.id_table import match_rows, new_table
from pipeline.checkpoints.load_model import load_weights, prepare_model
from pipeline.checkpoints.step_folders import list_checkpoints
from pipeline.config.run_config import RunConfig, TrainSettings, build_config
from pipeline.runtime.console import Console
from pipeline.runtime.run_folder import RunFolder, has_checkpoint, read_start_digest
from pipeline.training.size_limits import check_checkpoint
from solver.model.model import RecursiveModel
from solver.training.learner import Learner
from solver.training.learner_config import LearnerConfig
from solver.training.process_group import ProcessGroup

SAME_NETWORK = (
    *("hidden", "heads", "expansion", "inner_multiple", "layers", "mixer", "id_slots", "id_length", "vocabulary"),
    *("rope_theta", "rms_epsilon", "recursion.networks", "recursion.layers", "recursion.latents", "mlp"),
    *("recursion.noisy", "learns_noise", "symbols", "symbol_heads", "positions", "transform_vectors"),
)
"""Model settings that must equal those of the checkpoint that training starts from."""


def make_learner(
    config: RunConfig,
    keys: list[str],
    device: torch.device,
    run: Console,
    start: Checkpoint | None,
    processes: ProcessGroup | None = None,
) -> Learner:
    """Create a learner.

    Args:
        config: the run's settings.
        keys: the keys of the ID rows, as `pipeline.checkpoints.checkpoint.match_rows` expects them.
        device: where to train.
        run: where the result is logged.
        start: the checkpoint to take weights and ID rows from, matched by key; None to start from scratch.
        processes: the processes that train together, None for one.
    """
    torch.manual_seed(config.seed)
    model = RecursiveModel(config.model)
    table = new_table(keys, config.model)
    if start:
        load_weights(model, start, str(config.checkpoint))
        table, matched = match_rows(start, keys)
        run.log(f"ID rows: {matched} matched by key, {len(keys) - matched} new ones start at the mean of the trained")
    description = prepare_model(model, table, config.train, device, run)
    run.log(f"training in {description}")
    return Learner(model, table, learner_config(config, model.precision == torch.float16), processes)


def load_start(config: RunConfig, run: RunFolder) -> Checkpoint | None:
    """Load the checkpoint that training starts from, after `check_start`; None if it starts from scratch.

    The first process records the checkpoint's digest in the run. If the checkpoint is gone, the run's own newest one
    takes its place, with the same record of the tasks that were trained on.
    """
    header = check_start(config, run.path)
    if config.checkpoint is None:
        return None
    if header is None:
        newest = list_checkpoints(run.checkpoints)[-1]
        run.log(f"{config.checkpoint} is gone; the run resumes from its own checkpoint {newest}")
        return load_checkpoint(newest)
    if run.first and not run.start_record.exists():
        write_json(run.start_record, {"checkpoint": config.checkpoint, "sha256": header.digest})
    return load_checkpoint(Path(config.checkpoint))


def check_start(config: RunConfig, run: Path) -> CheckpointHeader | None:
    """Check from its header that training can start from the config's checkpoint, if there is one.

    Cycles, steps, exploration, canvas and board may differ from those of the checkpoint.

    Args:
        config: of the run.
        run: the run folder, which may not exist yet.

    Returns:
        The checkpoint's header. None if the config names no checkpoint, or if the checkpoint is gone and the run has
        checkpoints of its own.

    Raises:
        UserError: if the checkpoint has a different network, or is not the one that the run was started from.
    """
    if config.checkpoint is None:
        return None
    start = Path(config.checkpoint)
    if not start.exists() and has_checkpoint(run):
        return None
    check_checkpoint(start)
    header = read_checkpoint_header(start)
    digest = read_start_digest(run)
    if digest not in (None, header.digest):
        raise UserError(
            f"{start} is not the checkpoint that {run} was started from: it was replaced since",
            "put the old checkpoint back, or start another run (--run-dir)",
        )
    _check_network(config, header)
    return header


def _check_network(config: RunConfig, header: CheckpointHeader) -> None:
    """Raise a UserError if the checkpoint has a different network than the config."""
    old_model = build_config(header.config).model
    new_model = config.model
    values = {name: (attrgetter(name)(old_model), attrgetter(name)(new_model)) for name in SAME_NETWORK}
    differences = [
        f"model.{name} is {old!r} there and {new!r} here" for name, (old, new) in values.items() if old != new
    ]
    if differences:
        raise UserError(
            f"{config.checkpoint} has a different network: {'; '.join(differences)}",
            "set the same values as in the checkpoint with --set",
        )


def learner_config(config: RunConfig, scale_loss: bool = False) -> LearnerConfig:
    """Return the learner's settings; most have the same name in `TrainSettings` and are copied."""
    settings = config.train
    names = {field.name for field in fields(LearnerConfig)} & TrainSettings.model_fields.keys()
    values = {name: getattr(settings, name) for name in names}
    return LearnerConfig(
        **values, total_steps=settings.steps, ema_decay=settings.average, seed=config.seed, scale_loss=scale_loss
    )
