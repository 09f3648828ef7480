"""One command for each stage before the scores: build, train, predict; and what makes checkpoints of others."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from augment import MAX_PAIRS, Duplicates, FixedColours, OnLeak, Selection, load_tasks, open_puzzle_set
from augment.sources.load import find_source_label
from pipeline.cli.app import (
    BudgetText,
    CheckpointFolder,
    Limit,
    MaxSide,
    Recipe,
    Set,
    Source,
    Tasks,
    Train,
    app,
    configure,
    selected,
)
from pipeline.config.run_config import (
    ConfigError,
    PuzzleSettings,
    SelectionSettings,
    override,
    parse_assignments,
)
from pipeline.data.build import gather, make_puzzle_set, open_old_set, write_as
from pipeline.data.summary import describe, describe_exceptions, describe_tasks, describe_widths
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.runtime.launcher import is_first
from pipeline.runtime.run_folder import RunFolder
from pipeline.time_budget import Budget
from solver.data.puzzle_ids import Ids
from submissions.report.task_gallery import write_gallery


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
    workers: Annotated[int, typer.Option(help="ProcessGroup", min=1)] = 1,
    pairs: Annotated[
        int | None,
        typer.Option(help=f"Pairs drawn of a task that is a list of them (RE-ARC)  [default: {MAX_PAIRS}]", min=1),
    ] = None,
    ids: Annotated[
        Ids | None, typer.Option(help="The set is for training with this puzzles.ids  [default: augmentation]")
    ] = None,
    fixed_colours: Annotated[
        FixedColours | None,
        typer.Option(help="With --ids transform or task: puzzles.fixed_colours  [default: outputs]"),
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
    """Build a puzzle set: tasks under augmentations."""
    chosen = selected(tasks, max_side, limit)
    _check_build(out, scored, train_sources, chosen, extends, form)
    start = time.monotonic()
    console = Console()
    fixed = {"augmentations": augmentations, "seed": seed, "board_side": board_side, "pairs": pairs}
    old = open_old_set(extends, **fixed, ids=ids, fixed_colours=fixed_colours)
    settings = PuzzleSettings(
        augmentations=1000 if augmentations is None else augmentations,
        pairs=pairs or MAX_PAIRS, on_leak=on_leak, duplicates=duplicates, workers=workers,
        ids=ids or "augmentation", fixed_colours=fixed_colours or "outputs",
    )  # fmt: skip
    sources = gather(scored or [], Selection(**chosen), train_sources or [])
    puzzle_set = make_puzzle_set(sources, settings, seed or 0, board_side or 30, old)
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
        raise ConfigError(
            "build: --tasks, --max-side and --limit select scored tasks", "name their source with --score"
        )
    if extends and form == "published":
        raise ConfigError("build: a set that is extended lacks the test outputs to export", "build it from its sources")
    if out.exists():
        raise ConfigError(f"{out}: exists already and is not overwritten", "name another folder with --out")


@app.command("train")
def train_command(
    puzzles: Annotated[Path, typer.Option(help="A puzzle set's folder")],
    run: Annotated[Path, typer.Option("--run-dir", help="The run's folder")],
    recipe_name: Recipe = "cpu",
    checkpoint: CheckpointFolder = None,
    budget: BudgetText = None,
    assignments: Set = None,
) -> None:
    """Train a model on a puzzle set."""
    from pipeline.runtime.distributed import leave_process_group
    from pipeline.training.setup import check_start
    from pipeline.training.train import train

    puzzle_set = open_puzzle_set(puzzles)
    leaks = "allow" if puzzle_set.leaks else "drop"
    chosen = recipe(recipe_name)
    made = PuzzleSettings(
        augmentations=puzzle_set.requested, pairs=puzzle_set.max_pairs, on_leak=leaks, ids=chosen.puzzles.ids,
        fixed_colours="outputs" if puzzle_set.draws == "distinct" else puzzle_set.draws,
    )  # fmt: skip
    chosen = chosen.model_copy(update={"source": str(puzzles), "selection": SelectionSettings(), "puzzles": made})
    config = configure(chosen, {}, assignments, checkpoint, budget)
    check_start(config)
    folder = RunFolder(run, config, first=is_first())
    if config.ensemble > 1:
        folder.log(f"model 1 of {config.ensemble}, seed {config.seed}: `train` makes this one only, `solve` makes all")
    train(config, puzzle_set, folder, Budget(config.budget))
    folder.log(f"written: {folder.final_checkpoint}")
    leave_process_group()


@app.command("predict")
def predict_command(
    puzzles: Annotated[Path, typer.Option(help="The puzzle set's folder")],
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint's folder, such as RUN/checkpoints/final")],
    out: Annotated[Path, typer.Option(help="The new predictions folder; with --rescore it may be there already")],
    record: Annotated[
        Literal["last", "all"] | None, typer.Option("--steps", help="Supervision steps to record  [default: last]")
    ] = None,
    trajectories: Annotated[
        int | None, typer.Option(help="Answers per augmentation, each by chance of its own", min=1)
    ] = None,
    noise: Annotated[float | None, typer.Option(help="Standard deviation of noise on the latents", min=0)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Factor on the noise that the recursion draws; 0: its mean", min=0)
    ] = None,
    candidates: Annotated[
        int | None, typer.Option("--rescore", metavar="K", help="Score the K best candidates under every augmentation")
    ] = None,
    assignments: Set = None,
) -> None:
    """Answer every test input of a puzzle set under every augmentation."""
    from pipeline.checkpoints.checkpoint import load_checkpoint
    from pipeline.prediction.predict import predict
    from pipeline.prediction.rescore import rescore
    from pipeline.runtime.distributed import join_process_group, leave_process_group

    loaded = load_checkpoint(checkpoint)
    puzzle_set = open_puzzle_set(puzzles)
    options = {"record": record, "trajectories": trajectories, "noise": noise, "rescore": candidates}
    options["temperature"] = temperature
    changes = {f"predict.{name}": value for name, value in options.items() if value is not None}
    asked = {"ensemble": 1} | changes | parse_assignments(assignments or [])  # a checkpoint is one model
    config = override(loaded.run_config, asked)
    loaded = replace(loaded, config=config.model_dump(mode="json"))
    settings = config.predict
    console = Console(quiet=not is_first())
    made = join_process_group().any(out.exists())
    if made and (not settings.rescore or changes.keys() - {"predict.rescore"}):
        raise ConfigError(
            f"{out}: exists already and is not overwritten", "name another folder with --out, or only --rescore it"
        )
    if not made:
        predict(loaded, puzzle_set, settings, out, console, checkpoint=str(checkpoint))
    if settings.rescore:
        rescore(loaded, puzzle_set, settings, out, console)
    console.log(f"written: {out}")
    leave_process_group()


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
        raise ConfigError(f"{html}: exists already and is not overwritten", "name another file with --html")
    loaded = load_tasks(source, Selection(**selected(tasks, max_side, limit)))
    console = Console()
    console.show(describe_tasks(source, loaded))
    if html:
        write_gallery(html, find_source_label(source), loaded, augmentations)
        console.log(f"written: {html}")
