"""What score.json of a run must hold (docs/file_formats.md); `submissions.score.Score.to_json` writes it."""

from typing import Any

from pydantic import Field

from augment.schema import Count, Schema
from submissions.confidence_intervals import Interval


class FiguresFields(Schema):
    """`submissions.score.Figures`."""

    macro: float
    macro_interval: Interval
    micro: float
    micro_interval: Interval
    all_or_nothing: float
    all_or_nothing_interval: Interval


class KindFields(Schema):
    """`submissions.breakdown.Kind`."""

    group: str
    label: str
    outputs: Count
    solved: Count
    covered: Count | None


class ScoreFile(Schema):
    """The contents of score.json. The fields from `coverage` on are those of a score of predictions."""

    source: str
    tasks: Count
    outputs: Count
    pass_1: FiguresFields = Field(alias="pass@1")
    pass_2: FiguresFields = Field(alias="pass@2")
    trained_on: tuple[str, ...] | None
    merged: tuple[str, ...]
    kinds: tuple[KindFields, ...]
    coverage: FiguresFields | None = None
    rank: dict[str, Any] | None = None
    pass_at: dict[str, float] | None = Field(default=None, alias="pass@K")
    selection: float | None = None
    selection_interval: Interval | None = None
    malformed: float | None = None
