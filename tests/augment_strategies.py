"""Hypothesis strategies for grids, pairs and tasks, and task values as JSON writes them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from augment import MAX_SIDE, Augmentation, Grid, Pair


def grids(max_side: int = 6, max_colour: int = 9) -> st.SearchStrategy[Grid]:
    shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side)
    return arrays(np.uint8, shapes, elements=st.integers(0, max_colour))


def augmentations() -> st.SearchStrategy[Augmentation]:
    return st.builds(
        lambda dihedral, colours: Augmentation(dihedral, (0, *colours)),
        st.integers(0, 7),
        st.permutations(range(1, 10)),
    )


def pairs(max_side: int = 3, max_colour: int = 2) -> st.SearchStrategy[Pair]:
    grid = grids(max_side, max_colour)
    return st.builds(Pair, grid, st.none() | grid)


grid_values = grids(MAX_SIDE).map(lambda grid: grid.tolist())
pair_values = st.fixed_dictionaries({"input": grid_values, "output": grid_values})
task_values = st.fixed_dictionaries(
    {
        "train": st.lists(pair_values, min_size=1, max_size=3),
        "test": st.lists(pair_values, min_size=1, max_size=2),
    }
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["train", "test", "input", "x"]), inner)
    ),
    max_leaves=12,
)
