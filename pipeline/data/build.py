"""Builds a puzzle set from sources of tasks: the first stage of a run.

Of a scored source, the demonstrations are trained on and the test inputs are predicted. Of a train source, every pair
is trained on.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from augment import (
    PuzzleSet,
    Selection,
    SourcedTasks,
    Task,
    build_puzzle_set,
    extend_puzzle_set,
    load_source,
    open_puzzle_set,
    write_puzzle_set,
)
from augment.distinct import count_distinct
from augment.memory import main_memory
from augment.sources.load import find_source_label
from augment.sources.reading import describe_left_out
from pipeline.config.run_config import ConfigError, PuzzleSettings, RunConfig
from pipeline.data.summary import describe, describe_exceptions
from pipeline.runtime.console import Console
from pipeline.runtime.launcher import POLL_INTERVAL, is_first
from pipeline.runtime.machine import check_memory, fit_workers
from pipeline.runtime.run_folder import RunFolder

ROW_BYTES = 4
"""Bytes of an augmentation's number (uint32)."""


def gather(scored: list[str], selection: Selection, train: list[str]) -> list[SourcedTasks]:
    """Load the tasks of every source, with their role ("scored" or "train").

    Args:
        scored: names or paths of the sources to predict.
        selection: which tasks of the scored sources to load; train sources are loaded completely.
        train: names or paths of the sources to train on only; broken tasks are left out of them.
    """
    return [
        *(SourcedTasks(find_source_label(name), "scored", *load_source(name, selection)) for name in scored),
        *map(gather_train, train),
    ]


def gather_train(name: str) -> SourcedTasks:
    """Load a source to train on; broken tasks are left out."""
    return SourcedTasks(find_source_label(name), "train", *load_source(name, leave_out_broken=True))


def load_sources(config: RunConfig) -> list[SourcedTasks]:
    """Load the tasks of the config's sources, the scored one first.

    Raises:
        SourceError: if a source cannot be read.
        TaskError: if one of its tasks is not valid.
    """
    return gather([config.source], config.selection.selection(), list(config.train_sources))


def within(sources: list[SourcedTasks], max_side: int | None) -> list[SourcedTasks]:
    """Return the sources without the train tasks that have a grid side longer than `max_side` (None: no limit)."""
    if max_side is None:
        return sources
    return [
        replace(source, tasks=[task for task in source.tasks if _longest_side(task) <= max_side])
        if source.role == "train"
        else source
        for source in sources
    ]


def _longest_side(task: Task) -> int:
    """Return the longest side of all grids of a train task, whose test outputs are known and trained on."""
    return max(max(grid.shape) for pair in (*task.demonstrations, *task.tests) for grid in pair.grids())


def log_left_out(sources: Iterable[SourcedTasks], console: Console) -> None:
    """Log what could not be used of each source, in a line."""
    for source in sources:
        for line in describe_left_out(source.source, source.left_out, source.role == "scored"):
            console.log(line)


def make_puzzle_set(
    sources: list[SourcedTasks],
    settings: PuzzleSettings,
    seed: int,
    board_side: int = 30,
    extends: PuzzleSet | None = None,
) -> PuzzleSet:
    """Build the puzzle set of the sources.

    Args:
        sources: the tasks with their roles.
        settings: augmentations, and what to do with overlaps and duplicates.
        seed: the seed of the augmentations.
        board_side: the side of the board, in cells.
        extends: an existing set to add the sources to, with the settings it was built with.
    """
    _check_rows(sources, settings)
    on_leak = settings.on_leak
    duplicates = settings.duplicates
    sources = within(sources, settings.max_side)
    if extends is not None:
        return extend_puzzle_set(extends, sources, settings.workers, on_leak=on_leak, duplicates=duplicates)
    return build_puzzle_set(
        sources,
        settings.augmentations,
        seed,
        settings.workers,
        board_side,
        max_pairs=settings.pairs,
        on_leak=on_leak,
        duplicates=duplicates,
        draws=settings.draws,
    )


def _check_rows(sources: list[SourcedTasks], settings: PuzzleSettings) -> None:
    """Raise a UserError if main memory cannot hold the puzzles' numbers; one that is drawn takes `ROW_BYTES`."""
    tasks = [task for source in sources for task in source.tasks]
    memory = main_memory()
    rows = len(tasks) * (1 + settings.augmentations)
    if ROW_BYTES * rows > memory and settings.draws == "distinct":
        # A task may have fewer distinct puzzles than that. They are counted only here, because it takes time.
        counts = (count_distinct(task.demonstrations + task.tests) for task in tasks)
        rows = sum(min(count, 1 + settings.augmentations) for count in counts)
    check_memory(ROW_BYTES * rows, memory, f"augmentations={settings.augmentations}", f"{len(tasks)} tasks' puzzles")


def open_old_set(folder: Path | None, **options: int | str | None) -> PuzzleSet | None:
    """Open the puzzle set to extend, None if there is none.

    Args:
        folder: the puzzle set.
        options: command-line options that the set to extend determines; None for those that were not set.

    Raises:
        ConfigError: if such an option is set although a set is extended.
    """
    flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if folder is not None and flags:
        raise ConfigError(
            f"{', '.join(flags)}: a set is extended with the settings it was built with", "leave this option out"
        )
    return None if folder is None else open_puzzle_set(folder)


def write_as(form: str, puzzle_set: PuzzleSet, sources: list[SourcedTasks], folder: Path, console: Console) -> int:
    """Write the set in our format ("puzzles") or that of the published TRM ("published"); return the bytes in `folder`.

    Raises:
        UserError: if the folder exists and holds something else than this set in this format.
    """
    if form == "published":
        from pipeline.data.export_trm import export_published  # needs torch, which building does not

        scored = {task.id: task for source in sources if source.role == "scored" for task in source.tasks}
        export_published(puzzle_set, scored, folder, console)
    else:
        write_puzzle_set(puzzle_set, folder, keep_same=True)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def build(config: RunConfig, sources: list[SourcedTasks], run: RunFolder) -> PuzzleSet:
    """Run the build stage: write the sources' puzzle set to RUN/puzzles, or read the one that exists.

    With several processes, the first one builds it and the others wait for the folder.
    """
    log_left_out(sources, run)
    if is_first() and not run.puzzles.exists():
        workers = fit_workers(config.puzzles.workers, "puzzles.workers", run)
        settings = config.puzzles.model_copy(update={"workers": workers})
        built = make_puzzle_set(sources, settings, config.seed, config.model.board_side)
        write_puzzle_set(built, run.puzzles)
    # The folder is written atomically, so it is complete once it exists.
    while not run.puzzles.exists():
        time.sleep(POLL_INTERVAL)
    puzzle_set = open_puzzle_set(run.puzzles)
    run.show(describe(puzzle_set))
    for line in describe_exceptions(puzzle_set):
        run.log(line)
    return puzzle_set
