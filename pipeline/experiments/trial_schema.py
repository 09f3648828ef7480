"""What result.json of a trial must hold (docs/file_formats.md); `pipeline.experiments.trial` writes it."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from augment.schema import Count, Schema
from pipeline.runtime.provenance import Version

FIX = "remove the file: the same command then makes it again"


class WideFigures(Schema):
    """The other figures of an evaluation of several trajectories."""

    pass_1: float = Field(alias="pass@1")
    pass_2: float = Field(alias="pass@2")
    coverage: float


class Evaluation(Schema):
    """One kind of evaluation of a trial."""

    value: float
    right: Annotated[list[Annotated[str, Field(pattern="^[01]*$")]], Field(min_length=1)]
    """For each step a 0 or 1 per test input."""
    # Those below are missing in evaluations of other kinds.
    steps: list[float] = Field(default_factory=list)
    more: WideFigures | None = None
    compute: Count = 0

    @model_validator(mode="after")
    def _check_together(self) -> "Evaluation":
        """Check that there are as many steps as columns, and the compute of several trajectories."""
        if len({*map(len, self.right)}) > 1:
            raise ValueError("right: the numbers of test inputs differ")
        if self.steps and len(self.steps) != len(self.right):
            raise ValueError("steps: not as many as in right")
        if "more" in self.model_fields_set and not (self.more and self.compute):
            raise ValueError("more: null or without compute")
        return self


class TrialResult(Schema):
    """The contents of result.json."""

    config: dict[str, Any]
    versions: dict[str, Version]
    data: dict[str, str | int | float]
    tests: Count
    parameters: Count
    passes: Count
    depth: Count
    training_seconds: float
    seconds: float
    metrics: dict[str, Any]
    curve: list[tuple[Count, float]]
    answers: dict[str, Evaluation]
