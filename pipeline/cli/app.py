"""What commands share: the options that several of them take, and how these become a config or a selection."""

import time
from pathlib import Path
from typing import Annotated

import typer

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


def configure(
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
    if config.train.trackers:
        from pipeline.training.trackers import (
            check_trackers,  # it needs accelerate and torch, which most commands do without
        )

        check_trackers(config.train.trackers)
    return config


def selected(tasks: str, max_side: int | None, limit: int | None) -> dict:
    """The selection options that were given."""
    chosen = {"tasks": tuple(filter(None, map(str.strip, tasks.split(",")))), "max_side": max_side, "limit": limit}
    return {name: value for name, value in chosen.items() if value}


def new_run(name: str) -> Path:
    """A new folder's name for a run of this recipe."""
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
