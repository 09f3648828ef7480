"""Sources in, puzzle set out: the first stage of a run.

Of a scored source the demonstrations are trained on and the test inputs predicted; of a train source every pair.
"""

import time
from dataclasses import replace
from pathlib import Path

from augment import (
    PuzzleSet,
    Selection,
    SourcedTasks,
    Task,
    build_puzzle_set,
    extend_puzzle_set,
    load_tasks,
    open_puzzle_set,
    write_puzzle_set,
)
from augment.sources.load import find_source_label
from pipeline.config.run_config import ConfigError, PuzzleSettings, RunConfig
from pipeline.data.summary import describe, describe_exceptions
from pipeline.runtime.console import Console
from pipeline.runtime.launcher import POLL_INTERVAL, is_first
from pipeline.runtime.run_folder import RunFolder


def gather(scored: list[str], selection: Selection, train: list[str]) -> list[SourcedTasks]:
    """The tasks of every source, with what may be done with them. The selection holds for scored sources only."""
    return [
        *(SourcedTasks(find_source_label(name), "scored", load_tasks(name, selection)) for name in scored),
        *(SourcedTasks(find_source_label(name), "train", load_tasks(name)) for name in train),
    ]


def load_sources(config: RunConfig) -> list[SourcedTasks]:
    """The tasks of the config's sources, the scored one first.

    Raises:
        SourceError, TaskError: for a source that cannot be read.
    """
    return gather([config.source], config.selection.selection(), list(config.train_sources))


def within(sources: list[SourcedTasks], max_side: int | None) -> list[SourcedTasks]:
    """The sources without train tasks that have a longer side, in any of their grids; None: as they are."""
    if max_side is None:
        return sources
    return [
        replace(source, tasks=[task for task in source.tasks if _longest_side(task) <= max_side])
        if source.role == "train"
        else source
        for source in sources
    ]


def _longest_side(task: Task) -> int:
    """Of all its grids: of a train task the test outputs are no secret."""
    return max(max(grid.shape) for pair in (*task.demonstrations, *task.tests) for grid in pair.grids())


def make_puzzle_set(
    sources: list[SourcedTasks],
    settings: PuzzleSettings,
    seed: int,
    board_side: int = 30,
    extends: PuzzleSet | None = None,
) -> PuzzleSet:
    """The puzzle set of the sources; with `extends` that set and these, by the settings it was built with."""
    leak = settings.on_leak
    twice = settings.duplicates
    sources = within(sources, settings.max_side)
    if extends is not None:
        return extend_puzzle_set(extends, sources, settings.workers, on_leak=leak, duplicates=twice)
    return build_puzzle_set(
        sources,
        settings.augmentations,
        seed,
        settings.workers,
        board_side,
        max_pairs=settings.pairs,
        on_leak=leak,
        duplicates=twice,
        draws=settings.draws,
    )


def open_old_set(folder: Path | None, **given: int | str | None) -> PuzzleSet | None:
    """The set to extend, if any; ConfigError where a setting is given that is the old set's to say."""
    fixed = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if folder is not None and fixed:
        raise ConfigError(f"{', '.join(fixed)}: a set is extended by the settings it was built with", "leave it out")
    return None if folder is None else open_puzzle_set(folder)


def write_as(form: str, puzzle_set: PuzzleSet, sources: list[SourcedTasks], folder: Path, console: Console) -> int:
    """Write the set, as our own ("puzzles") or in the layout of the published TRM; returns the bytes written."""
    if form == "published":
        from pipeline.data.export_trm import export_published  # it needs torch, which a build does without

        scored = {task.id: task for source in sources if source.role == "scored" for task in source.tasks}
        export_published(puzzle_set, scored, folder, console)
    else:
        write_puzzle_set(puzzle_set, folder)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def build(config: RunConfig, sources: list[SourcedTasks], run: RunFolder) -> PuzzleSet:
    """The build stage: the puzzle set of the sources, in RUN/puzzles; one that is there already is read.

    Of several processes the first one builds and the others wait for the folder, which appears in one step.
    """
    if is_first() and not run.puzzles.exists():
        made = make_puzzle_set(sources, config.puzzles, config.seed, config.model.board_side)
        write_puzzle_set(made, run.puzzles)
    while not run.puzzles.exists():
        time.sleep(POLL_INTERVAL)
    puzzle_set = open_puzzle_set(run.puzzles)
    run.show(describe(puzzle_set))
    for line in describe_exceptions(puzzle_set):
        run.log(line)
    return puzzle_set
