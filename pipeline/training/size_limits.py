"""Refuses settings that no run on this machine can have: lower bounds of memory and time, before work begins.

Everything that is uncertain is left out of the bounds: a run that is refused cannot be, and one that is accepted may
still run out of memory. Batches are cut into micro-batches, so of the activations one example is counted.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from augment import PuzzleSet
from augment.errors import UserError
from augment.memory import main_memory
from pipeline.checkpoints.checkpoint import read_checkpoint_header
from pipeline.config.run_config import RunConfig, build_config
from pipeline.runtime.exit_codes import CheckpointError
from pipeline.runtime.launcher import count_gpus
from pipeline.runtime.machine import check_memory, device_memory, speed_bound
from pipeline.training.flop import applications, training_stages, work_of
from solver.data.puzzle_ids import find_rows
from solver.model.config import ModelConfig
from solver.model.layers import inner_size

LONGEST = 365 * 86400.0
"""Seconds that a stage may take at `speed_bound`, which no machine reaches."""
LAYER_SECONDS = 4e-6
"""Less than any layer takes: it is at least four matrix products, one after the other, and to start one takes longer
than a microsecond."""
LONGEST_STEP = 60.0
"""Seconds that one supervision step may take at `LAYER_SECONDS`, which is far below its real time: within a step no
checkpoint is written and no budget is observed."""
MOST_LAYERS = 10_000
"""Layers that can be created within some seconds, whatever their size."""
FLOAT = 4
"""Bytes of a value of the weights, their gradients, moments and averages."""
QUERY_BYTES = 24
"""Bytes in main memory of a prediction to be made: the numbers of its puzzle, pair and trajectory."""
SMALLEST_FLOAT = 2
"""Bytes of an activation in half precision."""


def count_weights(model: ModelConfig) -> int:
    """Return about how many weights a model has: the layers and the embeddings, without biases and small vectors."""
    hidden = model.hidden
    feedforward = 3 * hidden * inner_size(hidden, model.expansion, model.inner_multiple)
    if model.mixer == "mlp":
        length = model.id_slots + model.cells
        mixer = 3 * length * inner_size(length, model.expansion, model.inner_multiple)
    else:
        mixer = 4 * hidden**2
    if model.symbols:
        mixer += 4 * hidden * (hidden // model.heads) * (model.symbol_heads or model.heads)
    embeddings = 0 if model.symbols else 2 * model.vocabulary * hidden
    return model.total_layers * (mixer + feedforward) + embeddings


def latent_bytes(model: ModelConfig, cells: float) -> float:
    """Return the bytes of an example's latents in half precision."""
    values = (model.id_slots + cells) * model.hidden * (model.vocabulary if model.symbols else 1)
    return SMALLEST_FLOAT * values * len(model.recursion.latents)


def check_sizes(config: RunConfig) -> None:
    """Refuse settings with which a run on any tasks needs more memory than there is, or takes more than a year.

    Raises:
        UserError: naming the settings, the estimate and what to lower.
    """
    check_training(config)
    check_prediction(config)
    settings = config.train
    # Under the supervisor, task_steps that take too long are left out.
    if settings.task_steps and not config.unattended:
        work, layers = _work_of_step(config.model, _cells(config.model, None))
        names = f"train.task_steps={settings.task_steps}, train.batch_size={settings.batch_size}"
        steps = settings.task_steps
        _check_time(work * settings.batch_size * steps, layers * steps, names, "test-time training on one task")


def check_training(config: RunConfig, puzzle_set: PuzzleSet | None = None) -> None:
    """Refuse settings with which training needs more memory than there is, or takes more than a year.

    Args:
        config: of the run.
        puzzle_set: the puzzles, once they are known.

    Raises:
        UserError: naming the settings, the estimate and what to lower.
    """
    model = config.model
    settings = config.train
    cells = _cells(model, puzzle_set)
    memory = device_memory()
    _check_weights(model, "training", 3 + (settings.average is not None))
    processes = max(int(os.environ.get("WORLD_SIZE") or 1), count_gpus(), 1)
    latents = settings.batch_size / processes * latent_bytes(model, cells)
    names = f"train.batch_size={settings.batch_size}, {_width(model)}"
    check_memory(latents, memory, names, "the latents of a batch")
    for _, stage in training_stages(config):
        _check_activations(stage, cells)
    if puzzle_set is not None:
        rows = len(find_rows(puzzle_set, config.puzzles.ids)[0])
        copies = 3 if settings.id_optimizer == "adam" else 1
        table = FLOAT * rows * (model.id_length - model.shared_id_length) * copies
        check_memory(table, memory, f"{rows} puzzles with model.id_size={model.id_size}", "the puzzle embeddings")
    if config.budget is None and not settings.fit:
        stages = [(share, *_work_of_step(stage, cells)) for share, stage in training_stages(config)]
        work = sum(share * work for share, work, _ in stages) * settings.batch_size * settings.steps
        layers = sum(share * layers for share, _, layers in stages) * settings.steps
        names = f"train.steps={settings.steps}, train.batch_size={settings.batch_size}, ensemble={config.ensemble}"
        _check_time(work * config.ensemble, layers, names, "training")
    for _, stage in training_stages(config):
        _check_step(stage)


def check_prediction(config: RunConfig, puzzle_set: PuzzleSet | None = None) -> None:
    """Refuse settings with which prediction needs more memory than there is, or takes more than a year.

    Raises:
        UserError: naming the settings, the estimate and what to lower.
    """
    model = config.model
    settings = config.predict
    _check_weights(model, "prediction", 1)
    inputs, cells = _test_inputs(config, puzzle_set)
    check_memory(latent_bytes(model, cells), device_memory(), _width(model), "an example's latents")
    rows = inputs * settings.trajectories
    names = f"predict.trajectories={settings.trajectories}, predict.augmentations={settings.augmentations}"
    check_memory(QUERY_BYTES * rows, main_memory(), names, f"the list of {rows:,} predictions")
    model = _least_iterations(model)
    steps = settings.steps or model.max_steps
    work = work_of(model, np.array([model.id_slots + cells]))[0].item() * steps * rows * config.ensemble
    layers = applications(model)[0] * steps
    names = f"supervision steps={steps}, {names}, model.h_cycles={model.h_cycles}, model.l_cycles={model.l_cycles}"
    _check_time(work, layers, names, f"the prediction of {inputs:,} test inputs, augmentations included,")
    _check_step(model)


def check_checkpoint(folder: Path) -> None:
    """Refuse a checkpoint whose config asks for a model that cannot be, from its header, before its tensors are read.

    Raises:
        UserError: naming the checkpoint.
    """
    config = build_config(read_checkpoint_header(folder).config)
    try:
        _check_weights(config.model, "the model", 1)
    except UserError as error:
        raise CheckpointError(f"{folder}: {error.summary}", "name another checkpoint") from None


def _check_weights(model: ModelConfig, purpose: str, copies: int) -> None:
    names = f"model.hidden={model.hidden}, model.layers={model.layers}, model.expansion={model.expansion:g}"
    if model.mixer == "mlp":
        names += f", model.board_side={model.board_side}"
    what = f"{purpose} with {count_weights(model):.3g} weights"
    check_memory(FLOAT * count_weights(model) * copies, device_memory(), names, what)
    if model.total_layers > MOST_LAYERS:
        raise UserError(f"{names}: {model.total_layers:,} layers are more than {MOST_LAYERS:,}", "lower model.layers")


def _check_activations(model: ModelConfig, cells: float) -> None:
    """Refuse more layers with gradient than memory holds for one example; each keeps at least its input."""
    width = model.hidden * (model.vocabulary if model.symbols else 1)
    kept = applications(model)[1] * (model.id_slots + cells) * width * SMALLEST_FLOAT
    check_memory(kept, device_memory(), _depth(model), "one example's activations")


def _check_step(model: ModelConfig) -> None:
    """Refuse more layers in one supervision step than can follow one another within `LONGEST_STEP`."""
    layers = applications(_least_iterations(model))[0]
    if layers * LAYER_SECONDS > LONGEST_STEP:
        minutes = layers * LAYER_SECONDS / 60
        raise UserError(
            f"{_depth(model)}: one supervision step has {layers:,} layers and takes at least {minutes:,.0f} minutes",
            "lower them",
        )


def _depth(model: ModelConfig) -> str:
    """Return the settings that decide how many layers follow one another."""
    return f"model.layers={model.layers}, model.h_cycles={model.h_cycles}, model.l_cycles={model.l_cycles}"


def _width(model: ModelConfig) -> str:
    """Return the settings that decide the size of a latent."""
    return f"model.hidden={model.hidden}, model.id_slots={model.id_slots}, model.board_side={model.board_side}"


def _check_time(work: float, layers: float, names: str, purpose: str) -> None:
    """Refuse so many FLOP, and so many layers one after the other, if they take more than `LONGEST`."""
    seconds = max(work / speed_bound(), layers * LAYER_SECONDS)
    if seconds > LONGEST:
        raise UserError(f"{names}: {purpose} takes at least {seconds / 86400:,.0f} days on this machine", "lower them")


def _cells(model: ModelConfig, puzzle_set: PuzzleSet | None) -> float:
    """Return the mean number of cells of an example; 1 on task canvases that are not known yet."""
    if model.canvas == "full":
        return float(model.cells)
    return 1.0 if puzzle_set is None else float(puzzle_set.canvases.astype(np.float64).prod(axis=1).mean())


def _work_of_step(model: ModelConfig, cells: float) -> tuple[float, int]:
    """Return lower bounds of a training step: the FLOP of one example, and the layers that follow one another.

    A layer with gradient counts twice, as its backward pass takes no less than the forward one.
    """
    model = _least_iterations(model)
    return work_of(model, np.array([model.id_slots + cells]))[1].item(), sum(applications(model))


def _least_iterations(model: ModelConfig) -> ModelConfig:
    """Return the model with one iteration to each fixed point, which is certain; model.equilibrium has the maximum."""
    return replace(model, equilibrium=replace(model.equilibrium, iterations=1))


def _test_inputs(config: RunConfig, puzzle_set: PuzzleSet | None) -> tuple[int, float]:
    """Return how many test inputs are predicted, each counted once for each augmentation, and their mean cells.

    Without a puzzle set it is one test input.
    """
    if puzzle_set is None:
        return 1, _cells(config.model, None)
    tests = [
        len(task.tests) * (role == "scored") for task, role in zip(puzzle_set.tasks, puzzle_set.roles, strict=True)
    ]
    puzzles = np.diff(puzzle_set.starts).tolist()
    most = config.predict.augmentations
    inputs = [
        number * (count if most is None else min(count, most + 1)) for number, count in zip(tests, puzzles, strict=True)
    ]
    cells = puzzle_set.canvases.astype(np.float64).prod(axis=1)
    if config.model.canvas == "full" or not sum(inputs):
        return sum(inputs), _cells(config.model, puzzle_set)
    return sum(inputs), float(np.average(cells, weights=inputs))
