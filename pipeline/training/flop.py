"""Computes the floating-point operations (FLOP) of a training step, and how many steps fit into a FLOP budget.

The counts are analytical. Matrix products and attention are counted, for the positions in use: a product of (a, b) and
(b, c) is 2abc, and attention is its scores and the weighted sum. A backward pass counts as two forward passes.
Embeddings, norms, losses, optimizers, learned noise and the solves of an implicit gradient are not counted.

`mixer_flop`, `mlp_flop` and `head_flop`, and with a symbol axis `symbol_layer_flop`, are the costs of a layer's parts
and of the output head. To count another kind of network, change these. How often layers are applied (`applications`)
and on which positions is the same for all networks.

Shape suffix: B examples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from augment import PuzzleSet
from augment.errors import UserError
from pipeline.config.run_config import RunConfig
from solver.data.batches import find_palette
from solver.data.sampler import weigh_tasks
from solver.data.tokens import COLOUR
from solver.model.config import ModelConfig
from solver.model.layers import ConvSwiGLU, inner_size

Amounts = NDArray[np.float64]


def symbol_layer_flop(config: ModelConfig, cells_B: Amounts, symbols_B: Amounts) -> Amounts:
    """Return the FLOP of one layer with a symbol axis, forward, (B,): both attentions and the SwiGLU of every row."""
    rows_B = cells_B * symbols_B
    size = config.hidden // config.heads
    over_symbols = size * (config.symbol_heads or config.heads)
    attention_B = rows_B * (4.0 * config.hidden * cells_B + 4.0 * over_symbols * symbols_B)
    return 8.0 * config.hidden * (config.hidden + over_symbols) * rows_B + attention_B + mlp_flop(config, rows_B)


def mixer_flop(config: ModelConfig, positions_B: Amounts) -> Amounts:
    """Return the FLOP of one layer's attention, or of its SwiGLU along the positions, forward, (B,)."""
    if config.mixer == "mlp":
        length = config.id_slots + config.cells
        inner = inner_size(length, config.expansion, config.inner_multiple)
        return np.full_like(positions_B, 6.0 * config.hidden * length * inner)
    return 8.0 * config.hidden**2 * positions_B + 4.0 * config.hidden * positions_B**2


def mlp_flop(config: ModelConfig, positions_B: Amounts) -> Amounts:
    """Return the FLOP of one layer's SwiGLU along the features, with URM's short convolution if any, forward, (B,)."""
    inner = inner_size(config.hidden, config.expansion, config.inner_multiple)
    taps = ConvSwiGLU.TAPS if config.mlp == "conv_swiglu" else 0
    return (6.0 * config.hidden + 2.0 * taps) * inner * positions_B


def head_flop(config: ModelConfig, positions_B: Amounts) -> Amounts:
    """Return the FLOP of the output head, forward, (B,).

    It reads the cells; with a symbol axis it reads the whole vocabulary of each cell.
    """
    return 2.0 * config.hidden * config.vocabulary * (positions_B - config.id_slots)


def applications(config: ModelConfig) -> tuple[int, int]:
    """Return how many layers a supervision step applies: (in total, with gradient).

    An equation that is iterated to a fixed point counts with the maximum number of iterations, and one with gradient.
    """
    # All cycles but the last are equal, so two tell the rest: the number of cycles may be a thousand million.
    last = _applications(config, 1)
    two = _applications(config, 2)
    total, with_gradient = (end + (config.h_cycles - 1) * (both - end) for end, both in zip(last, two, strict=True))
    return total, with_gradient


def _applications(config: ModelConfig, h_cycles: int) -> tuple[int, int]:
    """Return `applications` for another number of h_cycles, by counting."""
    total = 0
    with_gradient = 0
    for run in config.recursion.schedule(h_cycles, config.l_cycles):
        iterations = config.equilibrium.iterations if run.update.settles else 0
        layers = run.times * config.layers_of(run.update.network)
        total += layers * (1 + iterations)
        with_gradient += layers * run.gradient
    return total, with_gradient


def work_of(config: ModelConfig, positions_B: Amounts, symbols_B: Amounts | None = None) -> tuple[Amounts, Amounts]:
    """Return the FLOP of each example, (B,): of a supervision step's forward pass, and of a training step.

    Args:
        config: the model.
        positions_B: the positions of each example.
        symbols_B: with a symbol axis, how many symbols each example uses; None for the whole vocabulary.
    """
    total, with_gradient = applications(config)
    if config.symbols:
        vocabulary_B = np.full_like(positions_B, config.vocabulary)
        layer_B = symbol_layer_flop(config, positions_B, vocabulary_B if symbols_B is None else symbols_B)
    else:
        layer_B = mixer_flop(config, positions_B) + mlp_flop(config, positions_B)
    head_B = head_flop(config, positions_B)
    forward_B = total * layer_B + head_B
    return forward_B, config.forward_passes * forward_B + 2 * (with_gradient * layer_B + head_B)


def step_work(config: ModelConfig, positions_B: NDArray[np.int64]) -> tuple[float, float]:
    """Return the FLOP summed over examples: (a supervision step's forward pass, a training step)."""
    forward_B, step_B = work_of(config, positions_B.astype(np.float64))
    return float(forward_B.sum()), float(step_B.sum())


def example_flop(config: ModelConfig, puzzle_set: PuzzleSet, weights: Sequence[tuple[str, float]] = ()) -> float:
    """Return the FLOP of a training step for one example: the mean over the examples that training draws.

    A task is drawn in proportion to the weight of its source, and then contributes all its pairs.

    Args:
        config: the model.
        puzzle_set: the puzzles to train on.
        weights: the setting train.source_weights.
    """
    tasks = range(len(puzzle_set.tasks))
    cells = puzzle_set.canvases.astype(np.float64).prod(axis=1)
    if config.canvas == "full":
        cells = np.full(len(tasks), float(puzzle_set.board_side**2))
    task_weights = weigh_tasks(puzzle_set.sources, weights) * [len(puzzle_set.training_pairs(task)) for task in tasks]
    symbols = COLOUR + find_palette(puzzle_set, config.palette).sum(axis=1)
    return float(
        np.average(work_of(config, config.id_slots + cells, symbols.astype(np.float64))[1], weights=task_weights)
    )


def step_flop(config: RunConfig, puzzle_set: PuzzleSet) -> float:
    """Return the FLOP of a training step of the whole batch: the mean over a run.

    The curriculum may start with fewer cycles, and steps with fewer cycles cost less.
    """
    settings = config.train
    total = 0.0
    for share, model in training_stages(config):
        total += share * example_flop(model, puzzle_set, settings.source_weights)
    return settings.batch_size * total


def training_stages(config: RunConfig) -> Iterator[tuple[float, ModelConfig]]:
    """Yield the stages of train.curriculum, of which the last has the model's own cycles: (share of steps, model)."""
    model = config.model
    begin = 0.0
    for end, h_cycles, l_cycles in (*config.train.curriculum, (1.0, model.h_cycles, model.l_cycles)):
        yield end - begin, replace(model, h_cycles=h_cycles, l_cycles=l_cycles)
        begin = end


def steps_within(flop: float, config: RunConfig, puzzle_set: PuzzleSet) -> int:
    """Return how many training steps fit into `flop` operations; raise a UserError if not even one does."""
    step = step_flop(config, puzzle_set)
    if flop < step:
        raise UserError(f"{flop:g} FLOP: one step takes {step:.3g}", "give more")
    return int(flop / step)
