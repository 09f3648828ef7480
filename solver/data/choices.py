"""Choices that the data and the model's config share."""

from typing import Literal

Palette = Literal["task", "all"]


Visits = Literal["tasks", "pairs"]
