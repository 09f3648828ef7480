"""What is known of the tasks that a model was trained on: decides whether its score is one on unseen tasks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from augment.contamination import has_trained_test
from augment.task import Task


@dataclass(frozen=True)
class TrainingRecord:
    """The contamination of predictions, as predictions.json and a submission's .about.json store it.

    Attributes:
        trained_on: IDs of predicted tasks whose test outputs the model was trained on.
        training_known: whether all training data of the model is recorded.
        related_looks: fingerprints of every trained task that has a test input of a predicted task
            (`augment.SeenTasks.related_looks`).
    """

    trained_on: tuple[str, ...] = ()
    training_known: bool = False
    related_looks: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrainingRecord":
        """Take the record from the metadata of predictions or of a submission; entries that are missing are unknown.

        Version 0.1 wrote no "related_looks"; in a submission's file it wrote null for "trained_on" if not known.
        """
        trained_on = value.get("trained_on")
        known = value.get("training_known", trained_on is not None)
        return cls(tuple(trained_on or ()), bool(known), tuple(value.get("related_looks", ())))

    @classmethod
    def union(cls, records: Sequence["TrainingRecord"]) -> "TrainingRecord":
        """Return the record of pooled predictions."""
        return cls(
            tuple(sorted({task for record in records for task in record.trained_on})),
            all(record.training_known for record in records),
            tuple(sorted({look for record in records for look in record.related_looks})),
        )

    def to_json(self) -> dict[str, Any]:
        """Undo `from_json`."""
        lists = {"trained_on": list(self.trained_on), "related_looks": list(self.related_looks)}
        return {**lists, "training_known": self.training_known}

    def contaminated(self, tasks: Iterable[Task]) -> list[str] | None:
        """Return the IDs of all tasks, these or others, whose test outputs were trained on; None if not known.

        Args:
            tasks: the tasks to score, with their solutions: their test pairs are compared with the trained pairs.
        """
        looks = frozenset(self.related_looks)
        trained = [task.id for task in tasks if has_trained_test(task, looks)] if looks else []
        found = sorted({*self.trained_on, *trained})
        return found if found or self.training_known else None
