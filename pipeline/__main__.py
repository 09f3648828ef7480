"""The command line: python -m pipeline COMMAND (also installed as arc-trm); --help lists commands and their options.

Every command is a few lines around a stage of the story. Bad input ends in one message and exit code 2, never in a
traceback, unless --debug is given anywhere on the line.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console as Screen
from rich.text import Text

from augment import MAX_PAIRS, Duplicates, OnLeak, Selection, load_tasks, open_puzzle_set
from augment.source import find_source_label
from pipeline.budget import Budget
from pipeline.checkpoint import load_checkpoint
from pipeline.config import (
    ConfigError,
    PuzzleSettings,
    RunConfig,
    SelectionSettings,
    build_config,
    override,
    parse_assignments,
)
from pipeline.convert import convert
from pipeline.launch import is_first, join_processes, leave_processes
from pipeline.predict import predict
from pipeline.prepare import (
    build,
    describe,
    describe_exceptions,
    describe_tasks,
    describe_widths,
    gather,
    open_old_set,
    write_as,
)
from pipeline.recipes import RECIPES, recipe
from pipeline.rescore import rescore
from pipeline.run import solve
from pipeline.rundir import Console, RunFolder
from pipeline.score_table import show_result
from pipeline.scoring import score_anything, to_json
from pipeline.start import start_from
from pipeline.submit import rankers_table, redraw_report, vote_file
from pipeline.trackers import check_trackers
from pipeline.train import train
from submissions import read_submission, validate_submission, write_gallery

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Source = Annotated[
    str, typer.Argument(help="A name such as arc-agi-1/training, a challenges file, or a folder of tasks")
]
Tasks = Annotated[str, typer.Option("--tasks", metavar="ID,ID", help="Only these scored tasks")]
MaxSide = Annotated[
    int | None, typer.Option(help="Only tasks whose demonstrations and test inputs fit this side", min=1)
]
Limit = Annotated[int | None, typer.Option(help="Only the first N task IDs that are left", min=1)]
Recipe = Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(RECIPES)}")]
Train = Annotated[
    list[str] | None, typer.Option("--train", metavar="SOURCE", help="Train on every pair of this source too")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Override a setting: train.lr=3e-4")]
CheckpointFolder = Annotated[Path | None, typer.Option(help="Start from this checkpoint's weights and ID rows")]
BudgetText = Annotated[str | None, typer.Option(help="Time for everything: 11h50m, 10m, 90s")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")]


@app.callback()
def options(debug: Debug = False) -> None:
    """From ARC tasks to a pass@2 submission with Tiny Recursive Models."""


@app.command("solve")
def solve_command(
    source: Annotated[str | None, typer.Argument(help="What to score; by default the recipe's own source")] = None,
    recipe_name: Recipe = "cpu",
    train_sources: Train = None,
    assignments: Set = None,
    checkpoint: CheckpointFolder = None,
    budget: BudgetText = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", "--run-folder", help="The run's folder; by default a new one under runs/"),
    ] = None,
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Every stage in order: build, train, predict, vote, score, report."""
    if run is None and join_processes().count > 1:
        raise ConfigError("several processes must share one folder: name it with --run-folder")
    chosen = recipe(recipe_name)
    if source and source != chosen.source:
        chosen = chosen.model_copy(update={"source": source, "selection": SelectionSettings()})
    if tasks:  # named tasks are meant as they are, whatever else the recipe would select
        chosen = chosen.model_copy(update={"selection": SelectionSettings()})
    changes = {"selection." + name: value for name, value in _selected(tasks, max_side, limit).items()}
    changes |= {"train_sources": train_sources} if train_sources else {}
    solve(_configure(chosen, changes, assignments, checkpoint, budget), run or _new_run(recipe_name))
    leave_processes()


@app.command("build")
def build_command(
    out: Annotated[Path, typer.Option(help="The new folder")],
    scored: Annotated[
        list[str] | None, typer.Option("--score", metavar="SOURCE", help="Predict its test inputs")
    ] = None,
    train_sources: Train = None,
    extends: Annotated[
        Path | None, typer.Option("--extend", metavar="SET", help="Add to this set's tasks, by its settings")
    ] = None,
    augmentations: Annotated[
        int | None, typer.Option(help="Augmented puzzles per task besides the original  [default: 1000]", min=0)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]", min=0)] = None,
    board_side: Annotated[
        int | None, typer.Option(help="Side of the board in cells  [default: 30]", min=1, max=255)
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes", min=1)] = 1,
    pairs: Annotated[
        int | None,
        typer.Option(help=f"Pairs drawn of a task that is a list of them (RE-ARC)  [default: {MAX_PAIRS}]", min=1),
    ] = None,
    on_leak: Annotated[
        OnLeak, typer.Option(help="A train task that holds a scored one: stop, drop it, or allow and mark every score")
    ] = "stop",
    duplicates: Annotated[Duplicates, typer.Option(help="Train tasks with equal pairs and different IDs")] = "keep",
    form: Annotated[
        Literal["puzzles", "published"], typer.Option("--format", help="Our puzzle set, or the published TRM's folder")
    ] = "puzzles",
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Build a puzzle set: tasks under distinct augmentations, each with its own ID."""
    selected = _selected(tasks, max_side, limit)
    _check_build(out, scored, train_sources, selected, extends, form)
    start, console = time.monotonic(), Console()
    old = open_old_set(extends, augmentations=augmentations, seed=seed, board_side=board_side, pairs=pairs)
    settings = PuzzleSettings(
        augmentations=1000 if augmentations is None else augmentations,
        pairs=pairs or MAX_PAIRS, on_leak=on_leak, duplicates=duplicates, workers=workers,
    )  # fmt: skip
    sources = gather(scored or [], Selection(**selected), train_sources or [])
    puzzle_set = build(sources, settings, seed or 0, board_side or 30, old)
    size = write_as(form, puzzle_set, sources, out, console)
    for line in describe_exceptions(puzzle_set):
        console.log(line)
    console.show(describe(puzzle_set, bytes=f"{size:,}", seconds=f"{time.monotonic() - start:.1f}"))
    console.log(describe_widths(puzzle_set))


def _check_build(
    out: Path, scored: list[str] | None, train: list[str] | None, selected: dict, extends: Path | None, form: str
) -> None:
    """ConfigError for options that cannot go together, before any work is done."""
    if not scored and not train:
        raise ConfigError("build: name at least one source, with --score or --train")
    if selected and not scored:
        raise ConfigError("build: --tasks, --max-side and --limit select scored tasks; name their source with --score")
    if extends and form == "published":
        raise ConfigError("build: a set that is extended lacks the test outputs to export; build it from its sources")
    if out.exists():
        raise ConfigError(f"{out}: exists already and is not overwritten; name another folder with --out")


@app.command("train")
def train_command(
    puzzles: Annotated[Path, typer.Option(help="A puzzle set's folder")],
    run: Annotated[
        Path, typer.Option("--run", "--run-folder", help="The run's folder; with torchrun write --run-folder")
    ],
    recipe_name: Recipe = "cpu",
    checkpoint: CheckpointFolder = None,
    budget: BudgetText = None,
    assignments: Set = None,
) -> None:
    """Train a model on a puzzle set."""
    puzzle_set = open_puzzle_set(puzzles)
    leaks = "allow" if puzzle_set.leaks else "drop"
    made = PuzzleSettings(augmentations=puzzle_set.requested, pairs=puzzle_set.max_pairs, on_leak=leaks)
    chosen = recipe(recipe_name).model_copy(
        update={"source": str(puzzles), "selection": SelectionSettings(), "puzzles": made}
    )
    config = _configure(chosen, {}, assignments, checkpoint, budget)
    start_from(config)
    folder = RunFolder(run, config, first=is_first())
    train(config, puzzle_set, folder, Budget(config.budget))
    folder.log(f"written: {folder.final_checkpoint}")
    leave_processes()


@app.command("predict")
def predict_command(
    puzzles: Annotated[Path, typer.Option(help="The puzzle set's folder")],
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint's folder, such as RUN/checkpoints/final")],
    out: Annotated[Path, typer.Option(help="The new predictions folder; with --rescore it may be there already")],
    record: Annotated[
        Literal["last", "all"] | None, typer.Option("--steps", help="Supervision steps to record  [default: last]")
    ] = None,
    trajectories: Annotated[int | None, typer.Option(help="Answers per augmentation, with --noise", min=1)] = None,
    noise: Annotated[float | None, typer.Option(help="Standard deviation of noise on the latents", min=0)] = None,
    candidates: Annotated[
        int | None, typer.Option("--rescore", metavar="K", help="Score the K best candidates under every augmentation")
    ] = None,
    assignments: Set = None,
) -> None:
    """Answer every test input of a puzzle set under every augmentation."""
    loaded, puzzle_set = load_checkpoint(checkpoint), open_puzzle_set(puzzles)
    options = {"record": record, "trajectories": trajectories, "noise": noise, "rescore": candidates}
    changes = {f"predict.{name}": value for name, value in options.items() if value is not None}
    config = override(build_config(loaded.config), changes | parse_assignments(assignments or []))
    loaded, settings = replace(loaded, config=config.model_dump(mode="json")), config.predict
    console, made = Console(quiet=not is_first()), join_processes().any(out.exists())
    if made and (not settings.rescore or changes.keys() - {"predict.rescore"}):
        raise ConfigError(
            f"{out}: exists already and is not overwritten; name another folder with --out, or only --rescore it"
        )
    if not made:
        predict(loaded, puzzle_set, settings, out, console, checkpoint=str(checkpoint))
    if settings.rescore:
        rescore(loaded, puzzle_set, settings, out, console)
    console.log(f"written: {out}")
    leave_processes()


@app.command("vote")
def vote_command(
    predictions: Annotated[Path | None, typer.Argument(help="A predictions folder")] = None,
    source: Annotated[str | None, typer.Argument(help="What it answers")] = None,
    out: Annotated[Path | None, typer.Option(help="The submission to write")] = None,
    ranker: Annotated[str, typer.Option(help="How candidates are ranked: a name, or a .py file of yours")] = "count",
    merge: Annotated[
        list[Path] | None, typer.Option("--merge", metavar="FOLDER", help="Pool these predictions with the first")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the rankers and what each has scored")] = False,
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Vote predictions into a submission."""
    if listed:
        return Console().show(rankers_table())
    if predictions is None or source is None or out is None:
        raise ConfigError("vote: name the predictions folder, the SOURCE it answers and --out; or --list the rankers")
    selection = Selection(**_selected(tasks, max_side, limit))
    console = Console()
    vote_file([predictions, *(merge or [])], source, selection, ranker, out, console)
    console.log(f"written: {out}")


@app.command("score")
def score_command(
    what: Annotated[Path, typer.Argument(help="A submission.json, a predictions folder, or a run's folder")],
    source: Annotated[str | None, typer.Argument(help="What it answers; runs and predictions know their own")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="OTHER", help="Compare with another, on the same tasks")
    ] = None,
    rankers: Annotated[
        str, typer.Option("--rankers", metavar="all|NAME,NAME", help="Compare rankers on these predictions")
    ] = "",
    merge: Annotated[
        list[Path] | None, typer.Option("--merge", metavar="FOLDER", help="Pool these predictions with its own")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Score against the source's solutions."""
    console, selection = Console(stderr=as_json), Selection(**_selected(tasks, max_side, limit))
    results = score_anything(what, source, selection, console, against, rankers, merge or [])
    if as_json:
        return print(json.dumps(to_json(results)))
    for result in results:
        console.show(show_result(result))


@app.command("validate")
def validate_command(
    submission: Annotated[Path, typer.Argument(help="A submission.json")],
    source: Source,
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Check a submission by the competition's rules."""
    wanted = load_tasks(source, Selection(**_selected(tasks, max_side, limit)))
    counts = validate_submission(read_submission(submission), wanted, submission)
    Console().log(f"{submission}: valid, {counts.tasks} tasks, {counts.entries} entries")


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(help="A run's folder")],
    folder: Annotated[
        bool, typer.Option("--folder", help="For many tasks: a folder of files, each fetched when its task is opened")
    ] = False,
) -> None:
    """Draw a run's report again."""
    Console().log(f"written: {redraw_report(run, 'folder' if folder else 'file')}")


@app.command("convert")
def convert_command(
    file: Annotated[Path, typer.Argument(help="A published checkpoint: .safetensors, or saved by torch")],
    out: Annotated[Path, typer.Option(help="The new checkpoint's folder")],
    identifiers: Annotated[
        Path | None, typer.Option(help="identifiers.json, which names the rows of the ID table")
    ] = None,
    assignments: Set = None,
) -> None:
    """Turn a published checkpoint into one of ours."""
    convert(file, out, identifiers, parse_assignments(assignments or []), Console())


@app.command("tasks")
def tasks_command(
    source: Source,
    html: Annotated[Path | None, typer.Option(help="Draw the tasks too, as a page in this new file")] = None,
    augmentations: Annotated[int, typer.Option(help="Augmentations drawn of each task on the page", min=0)] = 3,
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Check a source and count what is in it; --html draws it."""
    if html and html.exists():
        raise ConfigError(f"{html}: exists already and is not overwritten; name another file with --html")
    loaded, console = load_tasks(source, Selection(**_selected(tasks, max_side, limit))), Console()
    console.show(describe_tasks(source, loaded))
    if html:
        write_gallery(html, find_source_label(source), loaded, augmentations)
        console.log(f"written: {html}")


def _configure(
    chosen: RunConfig,
    changes: dict,
    assignments: list[str] | None,
    checkpoint: Path | None,
    budget: str | None,
) -> RunConfig:
    """The recipe with what the command line says on top."""
    changes = dict(changes)
    changes |= {"checkpoint": str(checkpoint)} if checkpoint else {}
    changes |= {"budget": budget} if budget else {}
    config = override(chosen, changes | parse_assignments(assignments or []))
    check_trackers(config.train.trackers)
    return config


def _selected(tasks: str, max_side: int | None, limit: int | None) -> dict:
    """The selection options that were given."""
    chosen = {"tasks": tuple(filter(None, map(str.strip, tasks.split(",")))), "max_side": max_side, "limit": limit}
    return {name: value for name, value in chosen.items() if value}


def _new_run(name: str) -> Path:
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user's error becomes one message and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"])
    except (ValueError, OSError) as error:
        if debug:
            raise
        Screen(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
