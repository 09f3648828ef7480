"""The members of the model family at their published sizes for Sudoku.

`pipeline.experiments.model_drawings` draws their recursions. A drawing reads from left to right, with a line for the
input and for each latent, and a column for each update. A dot marks a value that the update reads. A box is the network
that computes the new value of a latent; it is filled if the update has a gradient. An "e" in a circle after a box is
added noise. A loop over a box means that the update is repeated until the latent converges.
"""

from dataclasses import dataclass, replace

import torch
from rich.table import Table

from solver.model.config import ModelConfig
from solver.model.equations import (
    DIRECT,
    EQUILIBRIUM,
    GRAM,
    HRM,
    SEPARATE,
    SINGLE,
    TRM,
    UNIVERSAL,
    multi_scale,
)
from solver.model.model import RecursiveModel


@dataclass(frozen=True)
class Member:
    """A model of the family: its title, its settings at Sudoku size, and the publication."""

    title: str
    config: ModelConfig
    source: str


SUDOKU = ModelConfig(board_side=9, vocabulary=11, mixer="mlp", h_cycles=3, l_cycles=6)
"""TRM-MLP as published for Sudoku-Extreme (TRM, section 5)."""

HRM_SIZE = replace(SUDOKU, mixer="attention", layers=4, h_cycles=2, l_cycles=2, recursion=HRM, halting="q_learning")
URM_SIZE = replace(SUDOKU, mixer="attention", mlp="conv_swiglu", layers=4, h_cycles=2, l_cycles=6, recursion=UNIVERSAL)
SERRM_SIZE = replace(
    SUDOKU,
    mixer="attention",
    hidden=256,
    heads=4,
    h_cycles=3,
    l_cycles=4,
    recursion=UNIVERSAL,
    halting="random",
    id_slots=0,
    positions="rope2d",
    symbols=True,
    symbol_heads=2,
)
TRANSFORMER = replace(SUDOKU, mixer="attention", layers=8, h_cycles=1, l_cycles=1, recursion=DIRECT)

MEMBERS = {
    "trm": Member("TRM", SUDOKU, "2510.04871, section 4"),
    "hrm": Member("HRM", HRM_SIZE, "2506.21734"),
    "separate": Member("TRM, separate networks", replace(SUDOKU, recursion=SEPARATE), "2510.04871, table 1"),
    "one_step": Member(
        "TRM, one-step gradient", replace(SUDOKU, recursion=replace(TRM, gradient="update")), "2510.04871, table 1"
    ),
    "multi_scale": Member("TRM, a latent a scale", replace(SUDOKU, recursion=multi_scale(6)), "2510.04871, table 2"),
    "single": Member("TRM, one latent", replace(SUDOKU, recursion=SINGLE), "2510.04871, table 2"),
    "refined": Member("outer refinement only", TRANSFORMER, "arcprize.org/blog/hrm-analysis"),
    "gram": Member("GRAM", replace(SUDOKU, recursion=GRAM), "2605.19376"),
    "equilibrium": Member(
        "equilibrium", replace(SUDOKU, recursion=EQUILIBRIUM, h_cycles=1), "1909.01377; 2506.21734, section 2"
    ),
    "urm": Member("URM", URM_SIZE, "2512.14693"),
    "serrm": Member("SE-RRM", SERRM_SIZE, "2603.02193"),
    "direct": Member("direct prediction", replace(TRANSFORMER, max_steps=1), "2506.21734; 2510.04871, table 4"),
}


def count_parameters(config: ModelConfig) -> int:
    """Return the number of trained parameters, without the puzzle embeddings."""
    # On the meta device no memory is allocated for the weights.
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RecursiveModel(config).parameters())


def describe_members() -> Table:
    """Return a table of the members: equations, parameters, forward passes per optimizer step, effective depth."""
    table = Table("name", "model", "equations", "gradient", "parameters", "passes", "depth", "source", box=None)
    for name, member in MEMBERS.items():
        config = member.config
        recursion = member.config.recursion
        equations = (
            recursion.updates if len(recursion.updates) < 4 else (*recursion.updates[:2], "...", recursion.updates[-1])
        )
        numbers = (f"{count_parameters(config):,}", f"{config.forward_passes}", f"{config.effective_depth}")
        table.add_row(name, member.title, "\n".join(equations), recursion.gradient, *numbers, member.source)
    return table
