"""What the JSON files of a checkpoint must hold (docs/file_formats.md). This module does not import torch."""

from typing import Annotated, Any

from pydantic import Field

from augment import Overlap
from augment.augmentation import AUGMENTATIONS
from augment.schema import Count, Schema, SealedHeader

FORMAT = 3


class LearnerPosition(Schema):
    """Counts of the learner that resuming needs."""

    steps: Count
    scale: dict[str, float | int] | None
    planned: Count | None
    micro_batch: Count | None
    most_positions: Count | None
    failed_positions: Count | None = None
    barred_positions: Count | None = None
    steps_in_memory: Count = 0


class TrainingPosition(Schema):
    """Positions and counts of a training that can be resumed."""

    learner: LearnerPosition
    sampler: dict[str, Any]
    tally: dict[str, Any]
    puzzle_set: str
    """The digest of the puzzle set."""
    seconds: float


class CheckpointFile(SealedHeader):
    """The contents of checkpoint.json."""

    step: Count
    config: dict[str, Any]
    leaks: list[Overlap]
    processes: Annotated[int, Field(ge=1)] | None = None
    training: TrainingPosition | None = None


class KeysFile(Schema):
    """The contents of keys.json: the augmentation number of each ID row, by task."""

    tasks: dict[str, list[Annotated[int, Field(ge=0, lt=AUGMENTATIONS)]]]


class SeenFile(Schema):
    """The contents of seen.json: fingerprints of everything that was trained on, by task."""

    complete: bool
    tasks: dict[str, list[str]]
    demonstrations: dict[str, list[str]] = Field(default_factory=dict)
