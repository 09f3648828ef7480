"""The solve command: run every stage in order."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from augment.storage import check_writable, write_file
from pipeline.cli.app import (
    BudgetText,
    CheckpointFolder,
    Limit,
    MaxSide,
    Recipe,
    Set,
    Tasks,
    Train,
    app,
    configure,
    new_run,
    selected,
)
from pipeline.config.run_config import (
    ConfigError,
    RunConfig,
    SelectionSettings,
)
from pipeline.recipes.registry import recipe
from pipeline.runtime.folder_lock import release_all
from pipeline.runtime.launcher import count_gpus, count_launched, is_first, leave_at_once, run_launched
from pipeline.runtime.run_folder import RunFolder


@app.command("solve")
def solve_command(
    source: Annotated[str | None, typer.Argument(help="The source to score; by default that of the recipe")] = None,
    recipe_name: Recipe = "cpu",
    train_sources: Train = None,
    assignments: Set = None,
    checkpoint: CheckpointFolder = None,
    budget: BudgetText = None,
    run: Annotated[
        Path | None,
        typer.Option("--run-dir", help="The run's folder; by default a new one under runs/"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the submission here, not only in the run folder")] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes that share the work  \\[default: one per GPU, or per model without GPUs]", min=1),
    ] = None,
    tasks: Tasks = None,
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Run every stage in order: build, train, predict, vote, score, report."""
    if run is None and count_launched() > 1:
        raise ConfigError("several processes must share one folder", "name it with --run-dir")
    chosen = _choose_recipe(recipe_name, source, bool(tasks))
    changes = {"selection." + name: value for name, value in selected(tasks, max_side, limit).items()}
    changes |= {"train_sources": train_sources} if train_sources else {}
    incidents: list[str] = []
    if chosen.unattended:
        from pipeline.kaggle.backbone_settings import take_backbone_settings  # only such recipes need pipeline.kaggle

        if count_launched() > 1:
            raise ConfigError(
                f"solve --recipe {recipe_name} starts its processes itself", "run it without torchrun or accelerate"
            )
        chosen, checkpoint, incidents = take_backbone_settings(chosen, checkpoint)
    config = configure(chosen, changes, assignments, checkpoint, budget)
    folder = run or new_run(recipe_name)
    if out:
        check_writable(out.parent, "--out")
    if config.unattended:
        from pipeline.kaggle.unattended import solve_unattended

        is_valid = solve_unattended(config, folder, out, processes, incidents)
        release_all()
        leave_at_once(0 if is_valid else 1)
    solve_attended(config, folder, processes)
    if out and is_first():
        write_file(out, (folder / "submission.json").read_text(encoding="utf-8"))


def _choose_recipe(name: str, source: str | None, names_tasks: bool) -> RunConfig:
    """Return the recipe for a source; tasks that the user names are used whatever the recipe selects."""
    chosen = recipe(name)
    own_source = not source or source == chosen.source
    update = {} if own_source else {"source": source}
    if names_tasks or not own_source:
        update |= {"selection": SelectionSettings()}
    return chosen.model_copy(update=update)


def solve_attended(config: RunConfig, folder: Path, processes: int | None) -> None:
    """Run every stage in this process, or launch several processes that do.

    Args:
        config: of the run.
        folder: the run folder.
        processes: how many; by default one for each GPU, or without GPUs one for each model and at most one per core.

    Raises:
        UserError: if the config or an input is refused.
    """
    # These import torch, which takes seconds, so the command line is checked before.
    from pipeline.data.build import load_sources
    from pipeline.runtime.distributed import leave_process_group
    from pipeline.runtime.machine import check_processes
    from pipeline.solve import solve
    from pipeline.training.setup import check_start
    from pipeline.training.size_limits import check_sizes
    from submissions.rankers import find_ranker

    check_sizes(config)
    check_processes(processes or 1)
    number = processes or count_gpus() or _models_at_once(config.ensemble)
    if number > 1 and not os.environ.get("WORLD_SIZE"):
        # Refuse bad input here, once, and not in every launched process.
        check_start(config, folder)
        find_ranker(config.predict.ranker)
        load_sources(config)
        run = RunFolder(folder, config)  # holds the lock, and the launched processes may enter
        if code := run_launched(["solve", str(run.path)], number):
            sys.exit(code)
        return
    solve(config, folder)
    leave_process_group()


def _models_at_once(models: int) -> int:
    """Return how many models to train in parallel without NVIDIA GPUs: one per core, but 1 if torch finds a GPU."""
    from joblib import cpu_count

    from pipeline.runtime.distributed import cuda_works

    return 1 if cuda_works() else min(models, cpu_count())
