"""One HTML page that shows tasks and a few augmentations of each; it opens offline.

In: tasks. Out: a file without any external request. This module says what is shown; `gallery.html.j2` how it looks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from augment.augmentation import Augmentation
from augment.canvas import task_canvas
from augment.distinct import count_distinct, draw_augmentations
from augment.rng import task_rng
from augment.storage import write_file
from augment.task import Pair, Task
from submissions.report.svg_grid import Picture, Sheet
from submissions.report.template import render_page

DIHEDRAL_WORDS = (
    "colours only",
    "quarter turn counter-clockwise",
    "half turn",
    "quarter turn clockwise",
    "flipped left to right",
    "flipped upside down",
    "flipped over the main diagonal",
    "flipped over the other diagonal",
)
"""What each dihedral transform does, in the order of their numbers."""
PAIRS_SHOWN = 12
"""Of the demonstrations, and of the tests, of a task; generated tasks have hundreds."""
AUGMENTED_PAIRS_SHOWN = 2

DrawnPair = tuple[Picture, Picture | None]
"""Input and output; None where it is hidden."""


@dataclass(frozen=True)
class AugmentationDrawing:
    """An augmentation's published name, how it turns, and the first pairs under it."""

    name: str
    words: str
    pairs: list[DrawnPair]


@dataclass(frozen=True)
class TaskDrawing:
    """A task: its first pairs and how many are left out, its canvas, how many puzzles it has, and some of them."""

    id: str
    demonstrations: list[DrawnPair]
    tests: list[DrawnPair]
    left_out: int
    canvas: tuple[int, int]
    distinct: int
    augmentations: list[AugmentationDrawing]

    @property
    def side(self) -> int:
        """Longest side of all its pictures, in cells."""
        drawn = [picture for pair in self.demonstrations + self.tests for picture in pair if picture is not None]
        return max(max(picture.height, picture.width) for picture in drawn)


def write_gallery(path: str | Path, source: str, tasks: Sequence[Task], augmentations: int = 3) -> None:
    """Write the page to `path`, whole or not at all.

    Args:
        path: the HTML file; its folder is made where there is none.
        source: where the tasks come from, shown as the title.
        tasks: what to show.
        augmentations: how many augmented puzzles of each task, fewer where it has fewer.

    Raises:
        ValueError: for a negative number of augmentations.
    """
    if augmentations < 0:
        raise ValueError(f"augmentations is {augmentations}; give 0 (the tasks alone) or more")
    sheet = Sheet()
    page = render_page(
        "gallery.html.j2",
        title=source,
        kind="tasks",
        tasks=[draw_task(task, augmentations, sheet) for task in tasks],
        demonstrations=sum(len(task.demonstrations) for task in tasks),
        tests=sum(len(task.tests) for task in tasks),
        hidden=sum(pair.output is None for task in tasks for pair in task.tests),
        augmentations=augmentations,
        symbols=sheet.symbols,
    )
    write_file(Path(path), page)


def draw_task(task: Task, augmentations: int, sheet: Sheet) -> TaskDrawing:
    """Everything shown of `task`, its grids drawn on `sheet`. The same task always has the same augmentations."""
    pairs = task.demonstrations + task.tests
    numbers = draw_augmentations(pairs, augmentations, task_rng(0, task.id))[1:]
    demonstrations, tests = (draw_pairs(part[:PAIRS_SHOWN], sheet) for part in (task.demonstrations, task.tests))
    return TaskDrawing(
        task.id,
        demonstrations,
        tests,
        len(pairs) - len(demonstrations) - len(tests),
        task_canvas(task),
        count_distinct(pairs),
        [draw_augmentation(Augmentation.from_number(number), pairs, sheet) for number in numbers.tolist()],
    )


def draw_augmentation(augmentation: Augmentation, pairs: Sequence[Pair], sheet: Sheet) -> AugmentationDrawing:
    """The first of `pairs` as the augmentation makes them."""
    changed = (
        Pair(augmentation.apply(pair.input), None if pair.output is None else augmentation.apply(pair.output))
        for pair in pairs[:AUGMENTED_PAIRS_SHOWN]
    )
    return AugmentationDrawing(augmentation.name, DIHEDRAL_WORDS[augmentation.dihedral], draw_pairs(changed, sheet))


def draw_pairs(pairs: Iterable[Pair], sheet: Sheet) -> list[DrawnPair]:
    """The pictures of each pair."""
    return [(sheet.draw(pair.input), None if pair.output is None else sheet.draw(pair.output)) for pair in pairs]
