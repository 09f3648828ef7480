"""A small model with a symbol axis."""

from solver.model.config import ModelConfig

SIDE, VOCABULARY = 4, 12


CONFIG = ModelConfig(
    hidden=16,
    heads=2,
    expansion=2,
    inner_multiple=16,
    board_side=SIDE,
    id_slots=0,
    h_cycles=1,
    l_cycles=2,
    max_steps=3,
    exploration=0.0,
    canvas="task",
    symbols=True,
    halting="random",
    positions="rope2d",
)
