"""The settings that the search tries, by name. A name means one setting for ever: figures are filed under it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import ConfigError, RunConfig, override
from pipeline.recipes import recipe


@dataclass(frozen=True)
class Setting:
    """A recipe and what is changed in it: values by dotted name, as `--set` takes them."""

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> RunConfig:
        """The whole config; ConfigError for a recipe or a name that does not exist, or a value that cannot be."""
        return override(recipe(self.recipe), dict(self.changes))


SETTINGS: dict[str, Setting] = {
    "shipped": Setting("cpu"),
}


def find_setting(name: str, recipe_name: str | None, changes: Mapping[str, Any]) -> Setting:
    """The setting of this name in the table, or where a recipe or changes are given a new one (of recipe cpu).

    Raises:
        ConfigError: where a name of the table is given changes, or any other name is given none.
    """
    if name in SETTINGS and (recipe_name or changes):
        raise ConfigError(f"{name}: is a setting of the table already; give what you change another name")
    if name in SETTINGS:
        return SETTINGS[name]
    if not recipe_name and not changes:
        near = difflib.get_close_matches(name, SETTINGS, n=3, cutoff=0.5) or list(SETTINGS)
        raise ConfigError(f"{name}: no such setting; there is {', '.join(near)}, or describe it by --recipe or --set")
    return Setting(recipe_name or "cpu", changes)
