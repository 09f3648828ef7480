"""Types of settings that the data modules and the model's config share."""

from typing import Literal

Palette = Literal["task", "all"]


Visits = Literal["tasks", "pairs"]
