"""The members of the family at their published size, and a drawing of each recursion, made from its config.

A drawing reads from left to right: a line for the input and for each latent, a column for each update. A dot is a value
that is read, a box the network that gives the latent its new value, filled where the update carries a gradient. A small
e in a circle after a box is noise that is added, a loop over a box that it is repeated until its latent settles.
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
    """A model of the family: what it is called, its settings at Sudoku size, where it was published."""

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
    """Trained values without the ID table."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RecursiveModel(config).parameters())


def describe_members() -> Table:
    """A row for each member: its equations, size, forward passes per step and effective depth."""
    table = Table("name", "model", "equations", "gradient", "parameters", "passes", "depth", "source", box=None)
    for name, member in MEMBERS.items():
        config = member.config
        recursion = member.config.recursion
        shown = (
            recursion.updates if len(recursion.updates) < 4 else (*recursion.updates[:2], "...", recursion.updates[-1])
        )
        numbers = (f"{count_parameters(config):,}", f"{config.forward_passes}", f"{config.effective_depth}")
        table.add_row(name, member.title, "\n".join(shown), recursion.gradient, *numbers, member.source)
    return table
