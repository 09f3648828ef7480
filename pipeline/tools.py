"""Commands beside the story: convert published checkpoints, look at tasks."""

from pathlib import Path
from typing import Annotated

import typer

from augment import Selection, load_tasks
from augment.source import find_source_label
from pipeline.config import ConfigError, parse_assignments
from pipeline.options import Limit, MaxSide, Set, Source, Tasks, app, selected
from pipeline.prepare import describe_tasks
from pipeline.rundir import Console
from submissions.gallery import write_gallery


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
    from pipeline.convert import convert

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
    loaded, console = load_tasks(source, Selection(**selected(tasks, max_side, limit))), Console()
    console.show(describe_tasks(source, loaded))
    if html:
        write_gallery(html, find_source_label(source), loaded, augmentations)
        console.log(f"written: {html}")
