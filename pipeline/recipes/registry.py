"""Registry of recipes: functions that return a complete config.

The docstring of each gives its command, duration, hardware and expected score.
"""

from collections.abc import Callable

from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.recipes import gpu as gpu_recipes
from pipeline.recipes import small as small_recipes

_FUNCTIONS: tuple[Callable[[], RunConfig], ...] = (
    small_recipes.smoke,
    small_recipes.smoke_hrm,
    small_recipes.smoke_direct,
    small_recipes.smoke_gram,
    small_recipes.smoke_equilibrium,
    small_recipes.smoke_urm,
    small_recipes.smoke_symbols,
    small_recipes.cpu,
    small_recipes.cpu_trm,
    small_recipes.cpu_hour,
    small_recipes.kaggle_backbone_small,
    gpu_recipes.arc1,
    gpu_recipes.arc2,
    gpu_recipes.arc1_fast,
    gpu_recipes.arc1_fast_trm,
    gpu_recipes.arc1_fast_urm,
    gpu_recipes.arc1_fast_gram,
    gpu_recipes.kaggle,
    gpu_recipes.kaggle_backbone,
)

RECIPES = {function.__name__: function for function in _FUNCTIONS}
"""Recipe functions by name, in the order in which they are listed."""

OLD_NAMES = {"kaggle_trunk": "kaggle_backbone", "kaggle_trunk_small": "kaggle_backbone_small"}
"""Recipe names of version 0.1, accepted until version 0.3, with the names that replace them."""


def recipe(name: str) -> RunConfig:
    """Return the config of a recipe.

    Raises:
        ConfigError: no recipe has this name; the message lists those that exist.
    """
    name = OLD_NAMES.get(name, name)
    if name not in RECIPES:
        raise ConfigError(f"--recipe {name}: no such recipe", f"there are {', '.join(RECIPES)}")
    return RECIPES[name]()
