"""Options that several commands share, and their conversion into a config or a selection."""

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.task_ids import parse_task_ids
from pipeline.config.run_config import RunConfig, override, parse_assignments
from pipeline.recipes.registry import RECIPES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Source = Annotated[
    str, typer.Argument(help="A name such as arc-agi-1/training, a challenges file, or a folder of tasks")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--tasks", metavar="ID,ID|FILE", help="Only these scored tasks; FILE (or @FILE) has one ID a line"),
]
MaxSide = Annotated[
    int | None, typer.Option(help="Only tasks whose demonstrations and test inputs fit this side", min=1)
]
Limit = Annotated[int | None, typer.Option(help="Only the first N of the selected task IDs", min=1)]
Recipe = Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(RECIPES)}")]
Train = Annotated[
    list[str] | None, typer.Option("--train", metavar="SOURCE", help="Also train on every pair of this source")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Override a setting: train.lr=3e-4")]
CheckpointFolder = Annotated[
    Path | None, typer.Option(help="Start from this checkpoint's weights and puzzle embeddings")
]
BudgetText = Annotated[str | None, typer.Option(help="Time for the whole command: 11h50m, 10m, 90s")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")]


def configure(
    chosen: RunConfig,
    changes: dict,
    assignments: list[str] | None,
    checkpoint: Path | None,
    budget: str | None,
) -> RunConfig:
    """Return the recipe's config with the changes of the command line.

    Args:
        chosen: the recipe's config.
        changes: of settings, by dotted name.
        assignments: texts such as "train.lr=3e-4"; they take precedence over `changes`.
        checkpoint: folder to start from.
        budget: a duration such as "10m".

    Raises:
        ConfigError: if a setting does not exist or a value is not valid.
    """
    changes = dict(changes)
    changes |= {"checkpoint": str(checkpoint)} if checkpoint else {}
    changes |= {"budget": budget} if budget else {}
    config = override(chosen, changes | parse_assignments(assignments or []))
    if config.train.trackers:
        # Imported here: it imports accelerate and torch, which most commands do not need.
        from pipeline.training.trackers import check_trackers

        check_trackers(config.train.trackers)
    return config


def selected(tasks: list[str] | None, max_side: int | None, limit: int | None) -> dict:
    """Return the selection options that are set, by name.

    Raises:
        UserError: if --tasks is set and names no task, or a file that cannot be read.
    """
    options = {"tasks": parse_task_ids(tasks) if tasks else (), "max_side": max_side, "limit": limit}
    return {name: value for name, value in options.items() if value}


def new_run(name: str) -> Path:
    """Return a new run folder's name: the recipe and the time."""
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
