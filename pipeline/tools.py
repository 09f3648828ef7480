"""Commands beside the story: trunks, published checkpoints, a look at tasks."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from augment import Selection, load_tasks
from augment.folder import write_file
from augment.source import find_source_label
from pipeline.config import ConfigError, parse_assignments
from pipeline.options import (
    BudgetText,
    Limit,
    MaxSide,
    Recipe,
    Set,
    Source,
    Tasks,
    Train,
    app,
    configure,
    new_run,
    selected,
)
from pipeline.prepare import describe_tasks
from pipeline.recipes import recipe
from pipeline.rundir import Console
from submissions.gallery import write_gallery


@app.command("convert")
def convert_command(
    file: Annotated[Path, typer.Argument(help="A published checkpoint: .safetensors, or saved by torch")],
    out: Annotated[Path, typer.Option(help="The new checkpoint's folder")],
    identifiers: Annotated[
        Path | None, typer.Option(help="identifiers.json, which names the rows of the ID table")
    ] = None,
    trunk_only: Annotated[
        bool, typer.Option("--trunk-only", help="Keep the mean of the ID rows only, from which new rows start")
    ] = False,
    assignments: Set = None,
) -> None:
    """Turn a published checkpoint into one of ours."""
    from pipeline.convert import convert

    convert(file, out, identifiers, parse_assignments(assignments or []), Console(), trunk_only)


@app.command("pretrain")
def pretrain_command(
    out: Annotated[Path, typer.Option(help="The trunk's new folder")],
    recipe_name: Recipe = "kaggle_trunk",
    train_sources: Train = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", "--run-folder", help="The run's folder; by default a new one under runs/"),
    ] = None,
    budget: BudgetText = None,
    assignments: Set = None,
) -> None:
    """Train a trunk on train sources; the recipe's scored source stays unseen."""
    if run is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("several processes must share one folder: name it with --run-folder")
    chosen = recipe(recipe_name)
    sources = (*chosen.train_sources, *(train_sources or []))
    config = configure(chosen, {"train_sources": sources}, assignments, None, budget)
    from pipeline.launch import leave_processes
    from pipeline.pretrain import pretrain

    pretrain(config, run or new_run(recipe_name), out)
    leave_processes()


@app.command("trunk")
def trunk_command(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, such as RUN/checkpoints/final")],
    out: Annotated[Path, typer.Option(help="The trunk's new folder")],
    notes: Annotated[
        list[str] | None, typer.Option("--note", metavar="NAME=TEXT", help="A line for its card: data, scores ...")
    ] = None,
) -> None:
    """Make a trunk of a checkpoint: averaged weights in bf16, and one row from which new ID rows start."""
    from pipeline.checkpoint import load_checkpoint
    from pipeline.trunk import describe_training, write_trunk

    card = describe_training(checkpoint.resolve().parent.parent) | parse_notes(notes or [])
    size = write_trunk(load_checkpoint(checkpoint), out, card)
    Console().log(f"written: {out}, {size:,} bytes")


def parse_notes(texts: list[str]) -> dict[str, str]:
    """["data=mine", ...] as {"data": "mine"}; ConfigError where one has no name."""
    notes = {name.strip(): text.strip() for name, _, text in (each.partition("=") for each in texts)}
    if not all(notes.values()):
        raise ConfigError("--note: write it as NAME=TEXT, for example --note 'data=ARC-AGI-1 training'")
    return notes


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
    loaded, console = load_tasks(source, Selection(**selected(tasks, max_side, limit))), Console()
    console.show(describe_tasks(source, loaded))
    if html:
        write_gallery(html, find_source_label(source), loaded, augmentations)
        console.log(f"written: {html}")


@app.command("models")
def models_command(
    out: Annotated[Path | None, typer.Option(help="Draw every recursion too, as SVG into this folder")] = None,
) -> None:
    """List the models of the family: equations, sizes, depths."""
    from pipeline.models import MEMBERS, describe_members, draw_recursion
    from pipeline.symbol_drawing import draw_symbol_block

    console = Console()
    console.show(describe_members())
    if out:
        drawings = {name: draw_recursion(member.config, member.title) for name, member in MEMBERS.items()}
        drawings["symbol_block"] = draw_symbol_block(MEMBERS["serrm"].config)
        for name, drawing in drawings.items():
            write_file(out / f"{name}.svg", drawing)
        console.log(f"written: {len(drawings)} drawings in {out}")


@app.command("table")
def table_command(
    name: Annotated[str | None, typer.Argument(help="Which table; --list names them")] = None,
    scale: Annotated[Literal["smoke", "cpu", "gpu", "paper"], typer.Option(help="How large")] = "smoke",
    seeds: Annotated[int, typer.Option(help="Trainings of each row", min=1)] = 1,
    jobs: Annotated[
        int, typer.Option(help="Trainings at once, with one thread each where there are several", min=1)
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder  [default: runs/table-NAME-SCALE]")] = None,
    rows: Annotated[
        list[str] | None, typer.Option("--row", metavar="ROW", help="Only this row; may be repeated")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of published puzzle files, for --scale paper")] = None,
    assignments: Set = None,
    listed: Annotated[bool, typer.Option("--list", help="List tables and their rows")] = False,
) -> None:
    """Run a published table again: rows with their spread over seeds, beside the published figures."""
    from pipeline.tables import TABLES

    console = Console()
    if listed or name is None:
        for each, table in TABLES.items():
            console.log(f"{each}: {table.title}. {table.source}\n    " + "; ".join(row.name for row in table.rows))
        return
    from pipeline.table import Order, run_table

    folder = out or Path("runs") / f"table-{name}-{scale}"
    order = Order(name, scale, seeds, jobs, folder, tuple(rows or ()), data, tuple(assignments or ()))
    if not run_table(order, console):
        raise typer.Exit(1)
