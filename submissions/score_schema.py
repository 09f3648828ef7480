"""What score.json of a run must hold (docs/file_formats.md); `submissions.score.Score.to_json` writes it."""

from typing import Any

from pydantic import Field

from augment.schema import Count, Schema
from submissions.breakdown import Kind
from submissions.confidence_intervals import Interval
from submissions.score import Figures


class ScoreFile(Schema):
    """The contents of score.json. The fields from `coverage` on are those of a score of predictions."""

    source: str
    tasks: Count
    outputs: Count
    pass_1: Figures = Field(alias="pass@1")
    pass_2: Figures = Field(alias="pass@2")
    trained_on: tuple[str, ...] | None
    merged: tuple[str, ...]
    kinds: tuple[Kind, ...]
    coverage: Figures | None = None
    rank: dict[str, Any] | None = None
    pass_at: dict[str, float] | None = Field(default=None, alias="pass@K")
    selection: float | None = None
    selection_interval: Interval | None = None
    malformed: float | None = None
