"""Commands for published models and tables: models, table."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from augment.storage import write_file
from pipeline.cli.app import (
    Set,
    app,
)
from pipeline.runtime.console import Console

MOST_SEEDS = 1000
"""More would not change a figure of a table: the standard error of a mean is then a thirtieth of the spread."""


@app.command("models")
def models_command(
    out: Annotated[Path | None, typer.Option(help="Also draw every recursion, as SVG files in this folder")] = None,
) -> None:
    """List the models of the family: equations, sizes, depths."""
    from pipeline.experiments.model_drawings import draw_recursion
    from pipeline.experiments.model_zoo import MEMBERS, describe_members
    from pipeline.experiments.symbol_drawing import draw_symbol_block

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
    scale: Annotated[
        Literal["smoke", "cpu", "gpu", "paper"], typer.Option(help="How much data and training")
    ] = "smoke",
    seeds: Annotated[int, typer.Option(help="Trainings of each row, with different seeds", min=1, max=MOST_SEEDS)] = 1,
    jobs: Annotated[int, typer.Option(help="Trainings at the same time; with one thread each if several", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder  \\[default: runs/table-NAME-SCALE]")] = None,
    rows: Annotated[
        list[str] | None, typer.Option("--row", metavar="ROW", help="Only this row; may be repeated")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of published puzzle files, for --scale paper")] = None,
    assignments: Set = None,
    listed: Annotated[bool, typer.Option("--list", help="List tables and their rows")] = False,
) -> None:
    """Reproduce a published table: rows with their spread over seeds, beside the published figures."""
    from pipeline.experiments.paper_tables import TABLES

    console = Console()
    if listed or name is None:
        for key, table in TABLES.items():
            console.log(f"{key}: {table.title}. {table.source}\n    " + "; ".join(row.name for row in table.rows))
        return
    from pipeline.experiments.run_table import TableRequest, run_table

    folder = out or Path("runs") / f"table-{name}-{scale}"
    request = TableRequest(name, scale, seeds, jobs, folder, tuple(rows or ()), data, tuple(assignments or ()))
    if not run_table(request, console):
        raise typer.Exit(1)
