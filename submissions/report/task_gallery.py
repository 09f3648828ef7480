"""Write an HTML page with tasks and a few augmentations of each, viewable offline.

This module defines the content of the page, `gallery.html.j2` its appearance. The page makes no external requests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from augment.augmentation import Augmentation
from augment.canvas import task_canvas
from augment.distinct import count_distinct, draw_augmentations
from augment.errors import UserError
from augment.rng import task_rng
from augment.storage import write_new_file
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
"""A description of each dihedral transform, in the order of their numbers."""
PAIRS_SHOWN = 12
"""The most demonstrations, and the most test pairs, shown for a task; generated tasks have hundreds."""
AUGMENTED_PAIRS_SHOWN = 2
MOST_AUGMENTATIONS = 1_000_000
"""The most augmentations drawn on a page: each takes some 500 characters, and browsers open no longer page."""

DrawnPair = tuple[Picture, Picture | None]
"""Input and output; the output is None if it is hidden."""


@dataclass(frozen=True)
class AugmentationDrawing:
    """An augmentation: its published name, a description of its transform, and the first pairs under it."""

    name: str
    words: str
    pairs: list[DrawnPair]


@dataclass(frozen=True)
class TaskDrawing:
    """A drawn task.

    Attributes:
        id: task ID.
        demonstrations, tests: the first pairs, at most PAIRS_SHOWN of each.
        left_out: number of pairs that are not shown.
        canvas: rows and columns of the canvas.
        distinct: number of distinct puzzles over all augmentations.
        augmentations: some of the distinct puzzles.
    """

    id: str
    demonstrations: list[DrawnPair]
    tests: list[DrawnPair]
    left_out: int
    canvas: tuple[int, int]
    distinct: int
    augmentations: list[AugmentationDrawing]

    @property
    def side(self) -> int:
        """The longest side of all pictures of the task, in cells."""
        pictures = [picture for pair in self.demonstrations + self.tests for picture in pair if picture is not None]
        return max(max(picture.height, picture.width) for picture in pictures)


def write_gallery(path: str | Path, source: str, tasks: Sequence[Task], augmentations: int = 3) -> bool:
    """Write the page to a new file, atomically; return False if the file exists with this page.

    Args:
        path: the HTML file; its folder is created if needed.
        source: the source of the tasks, shown as the title.
        tasks: the tasks to show.
        augmentations: number of augmented puzzles per task; a task with fewer shows all of them.

    Raises:
        UserError: for a negative number of augmentations, for more than a page can hold, or if the file exists with
            other content.
    """
    if augmentations < 0:
        raise UserError(f"augmentations is {augmentations}", "give 0 (only the tasks) or more")
    _check_size(tasks, augmentations)
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
    return write_new_file(Path(path), page, "--html")


def _check_size(tasks: Sequence[Task], augmentations: int) -> None:
    """Raise a UserError for more than `MOST_AUGMENTATIONS` augmentations on a page."""
    drawn = len(tasks) * augmentations
    if drawn > MOST_AUGMENTATIONS:
        # A task may have fewer. They are counted only here, because it takes time.
        drawn = sum(min(augmentations, count_distinct(task.demonstrations + task.tests) - 1) for task in tasks)
    if drawn > MOST_AUGMENTATIONS:
        raise UserError(
            f"augmentations is {augmentations}: {drawn:,} drawings of {len(tasks):,} tasks are more than the "
            f"{MOST_AUGMENTATIONS:,} that a page can hold",
            "lower it, or draw fewer tasks (--limit)",
        )


def draw_task(task: Task, augmentations: int, sheet: Sheet) -> TaskDrawing:
    """Draw a task on `sheet`; the same task always gets the same augmentations."""
    pairs = task.demonstrations + task.tests
    # The first number is 0, the unchanged task, which is shown already.
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
    """Draw the first of `pairs` under an augmentation."""
    augmented_pairs = (
        Pair(augmentation.apply(pair.input), None if pair.output is None else augmentation.apply(pair.output))
        for pair in pairs[:AUGMENTED_PAIRS_SHOWN]
    )
    drawn_pairs = draw_pairs(augmented_pairs, sheet)
    return AugmentationDrawing(augmentation.name, DIHEDRAL_WORDS[augmentation.dihedral], drawn_pairs)


def draw_pairs(pairs: Iterable[Pair], sheet: Sheet) -> list[DrawnPair]:
    """Draw each pair; a hidden output gives None."""
    return [(sheet.draw(pair.input), None if pair.output is None else sheet.draw(pair.output)) for pair in pairs]
