"""The build command: make a puzzle set from sources."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from augment import MAX_PAIRS, Duplicates, FixedColours, OnLeak, Selection
from augment.puzzle_set_files import SUMMARY_FILE
from augment.storage import refuse_existing, refuse_other_folder
from augment.text_files import read_json
from pipeline.cli.app import (
    Limit,
    MaxSide,
    Tasks,
    Train,
    app,
    selected,
)
from pipeline.config.run_config import (
    ConfigError,
    PuzzleSettings,
)
from pipeline.config.setting_names import describe_errors
from pipeline.data.build import gather, log_left_out, make_puzzle_set, open_old_set, write_as
from pipeline.data.summary import describe, describe_exceptions, describe_widths
from pipeline.runtime.console import Console
from pipeline.runtime.folder_lock import locked_output
from pipeline.runtime.machine import fit_workers
from solver.data.puzzle_ids import Ids

Out = Annotated[Path, typer.Option(help="The new folder")]
Scored = Annotated[
    list[str] | None, typer.Option("--score", metavar="SOURCE", help="Predict the test inputs of this source")
]
Extended = Annotated[
    Path | None, typer.Option("--extend", metavar="SET", help="Add to this set's tasks, with its settings")
]
Augmentations = Annotated[
    int | None, typer.Option(help="Augmented puzzles per task besides the original  \\[default: 1000]", min=0)
]
Seed = Annotated[int | None, typer.Option(help="\\[default: 0]", min=0)]
BoardSide = Annotated[int | None, typer.Option(help="Side of the board in cells  \\[default: 30]", min=1, max=255)]
Workers = Annotated[int, typer.Option(help="Processes that build in parallel", min=1)]
Pairs = Annotated[
    int | None,
    typer.Option(help=f"Pairs drawn of a task that is a list of them (RE-ARC)  \\[default: {MAX_PAIRS}]", min=1),
]
IdsOption = Annotated[
    Ids | None, typer.Option(help="Setting puzzles.ids of the training that the set is for  \\[default: augmentation]")
]
Fixed = Annotated[
    FixedColours | None, typer.Option(help="With --ids transform or task: puzzles.fixed_colours  \\[default: outputs]")
]
Overlaps = Annotated[
    OnLeak,
    typer.Option(help="A train task that contains a scored one: stop, drop it, or allow it and mark every score"),
]
Repeated = Annotated[Duplicates, typer.Option(help="Train tasks with equal pairs and different IDs")]
Form = Annotated[
    Literal["puzzles", "published"],
    typer.Option("--format", help="A puzzle set, or the data folder of the published TRM code"),
]


@app.command("build")
def build_command(
    out: Out,
    scored: Scored = None,
    train_sources: Train = None,
    extends: Extended = None,
    augmentations: Augmentations = None,
    seed: Seed = None,
    board_side: BoardSide = None,
    workers: Workers = 1,
    pairs: Pairs = None,
    ids: IdsOption = None,
    fixed_colours: Fixed = None,
    on_leak: Overlaps = "stop",
    duplicates: Repeated = "keep",
    form: Form = "puzzles",
    tasks: Tasks = None,
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Build a puzzle set: tasks and their augmentations."""
    selection = selected(tasks, max_side, limit)
    _check_build(scored, train_sources, selection, extends, form)
    start = time.monotonic()
    console = Console()
    # Options that stay None are taken from the set that is extended; setting one of them is an error then.
    fixed = {"augmentations": augmentations, "seed": seed, "board_side": board_side, "pairs": pairs}
    old = open_old_set(extends, **fixed, ids=ids, fixed_colours=fixed_colours)
    settings = _make_settings(
        augmentations=1000 if augmentations is None else augmentations,
        pairs=pairs or MAX_PAIRS, on_leak=on_leak, duplicates=duplicates,
        workers=fit_workers(workers, "--workers", console),
        ids=ids or "augmentation", fixed_colours=fixed_colours or "outputs",
    )  # fmt: skip
    with locked_output(out, console.log):
        _refuse_other_set(out, None if extends else {"seed": seed or 0, "requested": settings.augmentations})
        exists = out.exists()
        sources = gather(scored or [], Selection(**selection), train_sources or [])
        log_left_out(sources, console)
        puzzle_set = make_puzzle_set(sources, settings, seed or 0, board_side or 30, old)
        size = write_as(form, puzzle_set, sources, out, console)
    if exists:
        console.log(f"{out} holds this puzzle set already")
    for line in describe_exceptions(puzzle_set):
        console.log(line)
    console.show(describe(puzzle_set, bytes=f"{size:,}", seconds=f"{time.monotonic() - start:.1f}"))
    console.log(describe_widths(puzzle_set))


def _make_settings(**values: Any) -> PuzzleSettings:
    try:
        return PuzzleSettings(**values)
    except ValidationError as error:
        raise ConfigError(describe_errors(error)) from None


def _refuse_other_set(out: Path, expected: dict[str, int] | None) -> None:
    """Raise UserError if there is something at `out` that is plainly another set, before one is built to compare."""
    refuse_other_folder(out, SUMMARY_FILE)
    if expected and out.exists():
        about = read_json(out / SUMMARY_FILE)
        if not isinstance(about, dict) or any(about.get(name) != value for name, value in expected.items()):
            refuse_existing(out)


def _check_build(
    scored: list[str] | None, train: list[str] | None, selection: dict, extends: Path | None, form: str
) -> None:
    """Raise ConfigError for options that cannot be combined, before any work is done."""
    if not scored and not train:
        raise ConfigError("build: there is no source", "name at least one with --score or --train")
    if selection and not scored:
        raise ConfigError(
            "build: --tasks, --max-side and --limit select scored tasks", "name their source with --score"
        )
    if extends and form == "published":
        raise ConfigError(
            "build: --format published cannot export an extended set, which has no test outputs", "build from sources"
        )
