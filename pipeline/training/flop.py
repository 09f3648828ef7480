"""Floating-point operations of training, by arithmetic: what a step costs, and how many steps an amount pays for.

Matrix products and attention are counted, for the positions in use: a product of (a, b) and (b, c) is 2abc, attention
is its scores and the weighted sum. A backward pass is twice its forward. Embeddings, norms, losses, optimizers, learnt
noise and the solves of an implicit gradient are left out.

`mixer_flop`, `mlp_flop`, with a symbol axis `symbol_layer_flop`, and `head_flop` are what a layer and the output head
cost; a network of another kind is counted by changing these. How often layers are applied (`applications`) and over
which positions is the same for all.
"""

from collections.abc import Sequence
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
    """Forward pass of one layer with a symbol axis, (B,) examples: both attentions and the SwiGLU of every row."""
    rows_B = cells_B * symbols_B
    size = config.hidden // config.heads
    over_symbols = size * (config.symbol_heads or config.heads)
    attention_B = rows_B * (4.0 * config.hidden * cells_B + 4.0 * over_symbols * symbols_B)
    return 8.0 * config.hidden * (config.hidden + over_symbols) * rows_B + attention_B + mlp_flop(config, rows_B)


def mixer_flop(config: ModelConfig, positions_B: Amounts) -> Amounts:
    """Forward pass of one layer's attention, or its SwiGLU along the positions, (B,) examples."""
    if config.mixer == "mlp":
        length = config.id_slots + config.cells
        inner = inner_size(length, config.expansion, config.inner_multiple)
        return np.full_like(positions_B, 6.0 * config.hidden * length * inner)
    return 8.0 * config.hidden**2 * positions_B + 4.0 * config.hidden * positions_B**2


def mlp_flop(config: ModelConfig, positions_B: Amounts) -> Amounts:
    """Forward pass of one layer's SwiGLU along the features, with URM's short convolution where it has one, (B,)."""
    inner = inner_size(config.hidden, config.expansion, config.inner_multiple)
    taps = ConvSwiGLU.TAPS if config.mlp == "conv_swiglu" else 0
    return (6.0 * config.hidden + 2.0 * taps) * inner * positions_B


def head_flop(config: ModelConfig, positions_B: Amounts) -> Amounts:
    """Forward pass of the output head, which reads the cells, with symbols the whole vocabulary of each, (B,)."""
    return 2.0 * config.hidden * config.vocabulary * (positions_B - config.id_slots)


def applications(config: ModelConfig) -> tuple[int, int]:
    """How many layers a supervision step applies: (in all, of these with gradient).

    An equation that settles counts with the most iterations it may take, and one with gradient.
    """
    whole = 0
    kept = 0
    for run in config.recursion.schedule(config.h_cycles, config.l_cycles):
        settling = config.equilibrium.iterations if run.update.settles else 0
        layers = run.times * config.layers_of(run.update.network)
        whole += layers * (1 + settling)
        kept += layers * run.gradient
    return whole, kept


def work_of(config: ModelConfig, positions_B: Amounts, symbols_B: Amounts | None = None) -> tuple[Amounts, Amounts]:
    """FLOP of each example, (B,): of a supervision step forward alone, and of a training step.

    symbols_B: with a symbol axis, how many symbols each example uses; the whole vocabulary where not given.
    """
    whole, kept = applications(config)
    if config.symbols:
        every_B = np.full_like(positions_B, config.vocabulary)
        layer_B = symbol_layer_flop(config, positions_B, every_B if symbols_B is None else symbols_B)
    else:
        layer_B = mixer_flop(config, positions_B) + mlp_flop(config, positions_B)
    head_B = head_flop(config, positions_B)
    forward_B = whole * layer_B + head_B
    return forward_B, config.forward_passes * forward_B + 2 * (kept * layer_B + head_B)


def step_work(config: ModelConfig, positions_B: NDArray[np.int64]) -> tuple[float, float]:
    """FLOP summed over examples of so many positions: (a supervision step forward alone, a training step)."""
    forward_B, step_B = work_of(config, positions_B.astype(np.float64))
    return float(forward_B.sum()), float(step_B.sum())


def example_flop(config: ModelConfig, puzzle_set: PuzzleSet, weights: Sequence[tuple[str, float]] = ()) -> float:
    """FLOP of a training step for one example: the mean over those that training draws from the set.

    A task is drawn as often as its source weighs, and then gives all its pairs. weights: train.source_weights
    """
    tasks = range(len(puzzle_set.tasks))
    cells = puzzle_set.canvases.astype(np.float64).prod(axis=1)
    if config.canvas == "full":
        cells = np.full(len(tasks), float(puzzle_set.board_side**2))
    drawn = weigh_tasks(puzzle_set.sources, weights) * [len(puzzle_set.training_pairs(task)) for task in tasks]
    symbols = COLOUR + find_palette(puzzle_set, config.palette).sum(axis=1)
    return float(np.average(work_of(config, config.id_slots + cells, symbols.astype(np.float64))[1], weights=drawn))


def step_flop(config: RunConfig, puzzle_set: PuzzleSet) -> float:
    """FLOP of a training step of the whole batch: the mean over a run, whose curriculum may begin with fewer cycles."""
    model = config.model
    settings = config.train
    total = 0.0
    begin = 0.0
    for end, h_cycles, l_cycles in (*settings.curriculum, (1.0, model.h_cycles, model.l_cycles)):
        stage = replace(model, h_cycles=h_cycles, l_cycles=l_cycles)
        total += (end - begin) * example_flop(stage, puzzle_set, settings.source_weights)
        begin = end
    return settings.batch_size * total


def steps_within(flop: float, config: RunConfig, puzzle_set: PuzzleSet) -> int:
    """The training steps that so many FLOP pay for; ValueError where they do not pay for one."""
    step = step_flop(config, puzzle_set)
    if flop < step:
        raise UserError(f"{flop:g} FLOP: one step takes {step:.3g}", "give more")
    return int(flop / step)
