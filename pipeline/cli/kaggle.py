"""The bundle command, which prepares a Kaggle dataset."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import app
from pipeline.runtime.console import Console


@app.command("bundle")
def bundle_command(
    out: Annotated[Path, typer.Option(help="The new folder")],
    backbone: Annotated[Path | None, typer.Option(help="The checkpoint to start from on Kaggle")] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Your name on Kaggle")] = None,
    slug: Annotated[str, typer.Option(help="The dataset's name in addresses")] = "arc-trm",
) -> None:
    """Build the dataset that the Kaggle notebook needs, checked with the network off."""
    from pipeline.kaggle.bundle import bundle

    bundle(out, backbone, owner, slug, Console())
