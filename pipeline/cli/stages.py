"""Commands of single stages: train, predict, and tasks, which checks a source."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from augment import Selection, load_source, open_puzzle_set
from augment.sources.load import find_source_label
from augment.sources.reading import describe_left_out
from pipeline.cli.app import (
    BudgetText,
    CheckpointFolder,
    Limit,
    MaxSide,
    Recipe,
    Set,
    Source,
    Tasks,
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
from pipeline.data.summary import describe_tasks
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.runtime.folder_lock import locked_output
from pipeline.runtime.launcher import is_first
from pipeline.runtime.run_folder import RunFolder
from pipeline.time_budget import Budget
from submissions.report.task_gallery import write_gallery


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
    from pipeline.training.size_limits import check_training
    from pipeline.training.train import train

    puzzle_set = open_puzzle_set(puzzles)
    # The puzzle set was checked for overlap when it was built.
    on_leak = "allow" if puzzle_set.leaks else "drop"
    chosen = recipe(recipe_name)
    puzzle_settings = PuzzleSettings(
        augmentations=puzzle_set.requested, pairs=puzzle_set.max_pairs, on_leak=on_leak, ids=chosen.puzzles.ids,
        fixed_colours="outputs" if puzzle_set.draws == "distinct" else puzzle_set.draws,
    )  # fmt: skip
    chosen = chosen.model_copy(
        update={"source": str(puzzles), "selection": SelectionSettings(), "puzzles": puzzle_settings}
    )
    config = configure(chosen, {}, assignments, checkpoint, budget)
    check_training(config, puzzle_set)
    check_start(config, run)
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
        Literal["last", "all"] | None, typer.Option("--steps", help="Supervision steps to record  \\[default: last]")
    ] = None,
    trajectories: Annotated[
        int | None, typer.Option(help="Predictions per augmentation, each with its own noise", min=1)
    ] = None,
    noise: Annotated[float | None, typer.Option(help="Standard deviation of noise on the latents", min=0)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Factor on the noise that the recursion draws; 0: its mean", min=0)
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option("--rescore", metavar="K", help="Rescore the K best candidates under every augmentation"),
    ] = None,
    assignments: Set = None,
) -> None:
    """Predict every test input of a puzzle set under every augmentation."""
    options = {"record": record, "trajectories": trajectories, "noise": noise, "rescore": candidates}
    options["temperature"] = temperature
    changes = {f"predict.{name}": value for name, value in options.items() if value is not None}
    overrides = {"ensemble": 1} | changes | parse_assignments(assignments or [])  # a checkpoint is one model
    _predict(puzzles, checkpoint, out, overrides, only_rescores=changes.keys() == {"predict.rescore"})


def _predict(puzzles: Path, checkpoint: Path, out: Path, overrides: dict[str, Any], only_rescores: bool) -> None:
    """Predict as `predict_command` does; with `only_rescores` existing predictions of other settings are used."""
    from pipeline.checkpoints.checkpoint import load_checkpoint
    from pipeline.prediction.predict import are_made, identify, predict
    from pipeline.prediction.rescore import rescore
    from pipeline.runtime.distributed import join_process_group, leave_process_group
    from pipeline.training.size_limits import check_checkpoint

    check_checkpoint(checkpoint)
    loaded = load_checkpoint(checkpoint)
    puzzle_set = open_puzzle_set(puzzles)
    config = override(loaded.run_config, overrides)
    loaded = replace(loaded, config=config.model_dump(mode="json"))
    settings = config.predict
    console = Console(quiet=not is_first())
    with locked_output(out, console.log):
        exists = join_process_group().any(out.exists())
        if exists and not are_made(out, identify(loaded, puzzle_set, settings)):
            if not settings.rescore or not only_rescores:
                raise ConfigError(
                    f"{out} exists already and is not overwritten",
                    "name another folder with --out, or only --rescore it",
                )
        else:
            predict(loaded, puzzle_set, settings, out, console, checkpoint=str(checkpoint))
        if settings.rescore:
            rescore(loaded, puzzle_set, settings, out, console)
    console.log(f"written: {out}")
    leave_process_group()


@app.command("tasks")
def tasks_command(
    source: Source,
    html: Annotated[Path | None, typer.Option(help="Also draw the tasks, as a page in this new file")] = None,
    augmentations: Annotated[int, typer.Option(help="Augmentations of each task on the page", min=0)] = 3,
    tasks: Tasks = None,
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Check a source and count its tasks; --html draws them."""
    label = find_source_label(source)
    loaded, left_out = load_source(source, Selection(**selected(tasks, max_side, limit)))
    console = Console()
    for line in describe_left_out(label, left_out):
        console.log(line)
    console.show(describe_tasks(source, loaded))
    if html:
        is_new = write_gallery(html, label, loaded, augmentations)
        console.log(f"written: {html}" if is_new else f"{html} holds this page already")
