"""Hypothesis strategies for grids, pairs and tasks, and task values as JSON writes them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from augment import MAX_SIDE, Augmentation, Grid, Pair, Task, apply


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


def disguise(task: Task, seed: int, name: str = "disguised") -> Task:
    """The task turned, recoloured (black too) and with its pairs, tests included, in another order."""
    rng = np.random.default_rng(seed)
    dihedral, colours = int(rng.integers(8)), rng.permutation(10).astype(np.uint8)

    def turn(grid: Grid | None) -> Grid | None:
        return None if grid is None else apply(grid, dihedral, colours)

    moved = [Pair(apply(pair.input, dihedral, colours), turn(pair.output)) for pair in task.demonstrations + task.tests]
    shuffled = [moved[place] for place in rng.permutation(len(moved))]
    known = [pair for pair in shuffled if pair.output is not None]
    hidden = [pair for pair in shuffled if pair.output is None]
    cut = len(known) - (0 if hidden else 1)
    return Task(name, tuple(known[:cut]), tuple(known[cut:] + hidden))
