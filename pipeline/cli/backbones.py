"""Commands that write a checkpoint to start training from: pretrain, backbone, convert."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import (
    BudgetText,
    Recipe,
    Set,
    Train,
    app,
    configure,
    new_run,
)
from pipeline.config.run_config import ConfigError, parse_assignments
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.runtime.folder_lock import locked_output
from pipeline.runtime.launcher import count_launched


@app.command("convert")
def convert_command(
    file: Annotated[
        Path, typer.Argument(help="A published checkpoint: .safetensors, saved by torch, or a folder with one of these")
    ],
    out: Annotated[Path, typer.Option(help="The new checkpoint's folder")],
    identifiers: Annotated[
        Path | None, typer.Option(help="identifiers.json, which names the puzzle of each embedding")
    ] = None,
    backbone_only: Annotated[
        bool,
        typer.Option("--backbone-only", help="Keep only the mean of the puzzle embeddings, from which new ones start"),
    ] = False,
    assignments: Set = None,
) -> None:
    """Convert a published checkpoint."""
    from pipeline.checkpoints.convert_trm import convert
    from pipeline.training.size_limits import check_prediction

    console = Console()
    with locked_output(out, console.log):
        overrides = parse_assignments(assignments or [])
        convert(file, out, identifiers, overrides, console, backbone_only, check_prediction)


@app.command("pretrain")
def pretrain_command(
    out: Annotated[Path, typer.Option(help="The backbone's new folder")],
    recipe_name: Recipe = "kaggle_backbone",
    train_sources: Train = None,
    run: Annotated[
        Path | None,
        typer.Option("--run-dir", help="The run's folder; by default a new one under runs/"),
    ] = None,
    budget: BudgetText = None,
    assignments: Set = None,
) -> None:
    """Train a backbone on train sources, without the tasks of the recipe's scored source."""
    if run is None and count_launched() > 1:
        raise ConfigError("several processes must share one folder", "name it with --run-dir")
    chosen = recipe(recipe_name)
    sources = (*chosen.train_sources, *(train_sources or []))
    config = configure(chosen, {"train_sources": sources}, assignments, None, budget)
    from pipeline.pretrain import pretrain
    from pipeline.runtime.distributed import leave_process_group

    with locked_output(out, Console().log):
        pretrain(config, run or new_run(recipe_name), out)
    leave_process_group()


@app.command("backbone")
def backbone_command(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, such as RUN/checkpoints/final")],
    out: Annotated[Path, typer.Option(help="The backbone's new folder")],
    notes: Annotated[
        list[str] | None,
        typer.Option("--note", metavar="NAME=TEXT", help="A line for its model card: data, scores ..."),
    ] = None,
) -> None:
    """Make a backbone of a checkpoint: averaged weights in bf16, and the vector from which new embeddings start."""
    from pipeline.checkpoints.backbone import describe_training, write_backbone
    from pipeline.checkpoints.checkpoint import load_checkpoint

    console = Console()
    card = describe_training(checkpoint.resolve().parent.parent) | parse_notes(notes or [])
    with locked_output(out, console.log):
        exists = out.exists()
        size = write_backbone(load_checkpoint(checkpoint), out, card)
    console.log(f"{out} holds this backbone already" if exists else f"written: {out}, {size:,} bytes")


def parse_notes(texts: list[str]) -> dict[str, str]:
    """Return {"data": "mine"} for ["data=mine"]; ConfigError if a note is not of the form NAME=TEXT."""
    notes = {name.strip(): text.strip() for name, _, text in (note.partition("=") for note in texts)}
    if not all(notes.values()):
        raise ConfigError("--note: a note has no text", "write NAME=TEXT, for example --note 'data=ARC-AGI-1 training'")
    return notes
