"""The command line: python -m pipeline COMMAND (also installed as arc-trm); --help lists commands and their options.

Every command is a few lines around a stage of the story. Bad input ends in one message and exit code 2, never in a
traceback, unless --debug is given anywhere on the line.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console as Screen
from rich.text import Text

from augment import MAX_PAIRS, Duplicates, FixedColours, OnLeak, Selection, open_puzzle_set
from augment.folder import write_file
from pipeline.budget import Budget
from pipeline.children import count_gpus, is_first, leave_at_once, run_launched
from pipeline.config import (
    ConfigError,
    PuzzleSettings,
    RunConfig,
    SelectionSettings,
    build_config,
    override,
    parse_assignments,
)
from pipeline.options import (
    BudgetText,
    CheckpointFolder,
    Debug,
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
from pipeline.prepare import (
    build,
    describe,
    describe_exceptions,
    describe_widths,
    gather,
    open_old_set,
    write_as,
)
from pipeline.recipes import recipe
from pipeline.rundir import Console, RunFolder
from pipeline.unattended import solve_unattended, take_network
from solver.identity import Ids


@app.callback()
def options(debug: Debug = False) -> None:
    """From ARC tasks to a pass@2 submission with Tiny Recursive Models."""


@app.command("solve")
def solve_command(
    source: Annotated[str | None, typer.Argument(help="What to score; by default the recipe's own source")] = None,
    recipe_name: Recipe = "cpu",
    train_sources: Train = None,
    assignments: Set = None,
    checkpoint: CheckpointFolder = None,
    budget: BudgetText = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", "--run-folder", help="The run's folder; by default a new one under runs/"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the submission here too, besides RUN/submission.json")] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes that share the work  [default: a GPU each; without one, a model each]", min=1),
    ] = None,
    tasks: Tasks = "",
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Every stage in order: build, train, predict, vote, score, report."""
    if run is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("several processes must share one folder: name it with --run-folder")
    chosen = recipe(recipe_name)
    if source and source != chosen.source:
        chosen = chosen.model_copy(update={"source": source, "selection": SelectionSettings()})
    if tasks:  # named tasks are meant as they are, whatever else the recipe would select
        chosen = chosen.model_copy(update={"selection": SelectionSettings()})
    changes = {"selection." + name: value for name, value in selected(tasks, max_side, limit).items()}
    changes |= {"train_sources": train_sources} if train_sources else {}
    lost: list[str] = []
    if chosen.unattended and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"solve --recipe {recipe_name} starts its processes itself: give it without a launcher")
    if chosen.unattended:
        chosen, checkpoint, lost = take_network(chosen, checkpoint)
    config, folder = configure(chosen, changes, assignments, checkpoint, budget), run or new_run(recipe_name)
    if config.unattended:
        leave_at_once(0 if solve_unattended(config, folder, out, processes, lost) else 1)
    solve_attended(config, folder, processes)
    if out and is_first():
        write_file(out, (folder / "submission.json").read_text(encoding="utf-8"))


def solve_attended(config: RunConfig, folder: Path, processes: int | None) -> None:
    """Every stage in this process, or by the launcher in several; bad input ends it.

    By itself it takes a process for each GPU, or without one for each model, as far as there are cores.
    """
    from pipeline.launch import leave_processes  # torch, which takes seconds, only once the rest is known to be right
    from pipeline.run import find_sources, solve

    number = processes or count_gpus() or _models_at_once(config.ensemble)
    if number > 1 and "WORLD_SIZE" not in os.environ:
        find_sources(config)
        RunFolder(folder, config)
        if code := run_launched(["solve", str(folder)], number):
            sys.exit(code)
        return
    solve(config, folder)
    leave_processes()


def _models_at_once(models: int) -> int:
    """How many models to train side by side where no GPU is counted: one a core; one where torch finds a GPU still."""
    import torch
    from joblib import cpu_count

    return 1 if torch.cuda.is_available() else min(models, cpu_count())


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
    workers: Annotated[int, typer.Option(help="Processes", min=1)] = 1,
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
    start, console = time.monotonic(), Console()
    fixed = {"augmentations": augmentations, "seed": seed, "board_side": board_side, "pairs": pairs}
    old = open_old_set(extends, **fixed, ids=ids, fixed_colours=fixed_colours)
    settings = PuzzleSettings(
        augmentations=1000 if augmentations is None else augmentations,
        pairs=pairs or MAX_PAIRS, on_leak=on_leak, duplicates=duplicates, workers=workers,
        ids=ids or "augmentation", fixed_colours=fixed_colours or "outputs",
    )  # fmt: skip
    sources = gather(scored or [], Selection(**chosen), train_sources or [])
    puzzle_set = build(sources, settings, seed or 0, board_side or 30, old)
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
        raise ConfigError("build: --tasks, --max-side and --limit select scored tasks; name their source with --score")
    if extends and form == "published":
        raise ConfigError("build: a set that is extended lacks the test outputs to export; build it from its sources")
    if out.exists():
        raise ConfigError(f"{out}: exists already and is not overwritten; name another folder with --out")


@app.command("train")
def train_command(
    puzzles: Annotated[Path, typer.Option(help="A puzzle set's folder")],
    run: Annotated[
        Path, typer.Option("--run", "--run-folder", help="The run's folder; with torchrun write --run-folder")
    ],
    recipe_name: Recipe = "cpu",
    checkpoint: CheckpointFolder = None,
    budget: BudgetText = None,
    assignments: Set = None,
) -> None:
    """Train a model on a puzzle set."""
    from pipeline.launch import leave_processes
    from pipeline.start import start_from
    from pipeline.train import train

    puzzle_set = open_puzzle_set(puzzles)
    leaks = "allow" if puzzle_set.leaks else "drop"
    chosen = recipe(recipe_name)
    made = PuzzleSettings(
        augmentations=puzzle_set.requested, pairs=puzzle_set.max_pairs, on_leak=leaks, ids=chosen.puzzles.ids,
        fixed_colours="outputs" if puzzle_set.draws == "distinct" else puzzle_set.draws,
    )  # fmt: skip
    chosen = chosen.model_copy(update={"source": str(puzzles), "selection": SelectionSettings(), "puzzles": made})
    config = configure(chosen, {}, assignments, checkpoint, budget)
    start_from(config)
    folder = RunFolder(run, config, first=is_first())
    if config.ensemble > 1:
        folder.log(f"model 1 of {config.ensemble}, seed {config.seed}: `train` makes this one only, `solve` makes all")
    train(config, puzzle_set, folder, Budget(config.budget))
    folder.log(f"written: {folder.final_checkpoint}")
    leave_processes()


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
    from pipeline.checkpoint import load_checkpoint
    from pipeline.launch import join_processes, leave_processes
    from pipeline.predict import predict
    from pipeline.rescore import rescore

    loaded, puzzle_set = load_checkpoint(checkpoint), open_puzzle_set(puzzles)
    options = {"record": record, "trajectories": trajectories, "noise": noise, "rescore": candidates}
    options["temperature"] = temperature
    changes = {f"predict.{name}": value for name, value in options.items() if value is not None}
    asked = {"ensemble": 1} | changes | parse_assignments(assignments or [])  # a checkpoint is one model
    config = override(build_config(loaded.config), asked)
    loaded, settings = replace(loaded, config=config.model_dump(mode="json")), config.predict
    console, made = Console(quiet=not is_first()), join_processes().any(out.exists())
    if made and (not settings.rescore or changes.keys() - {"predict.rescore"}):
        raise ConfigError(
            f"{out}: exists already and is not overwritten; name another folder with --out, or only --rescore it"
        )
    if not made:
        predict(loaded, puzzle_set, settings, out, console, checkpoint=str(checkpoint))
    if settings.rescore:
        rescore(loaded, puzzle_set, settings, out, console)
    console.log(f"written: {out}")
    leave_processes()


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user's error becomes one message and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"])
    except (ValueError, OSError) as error:
        if debug:
            raise
        Screen(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(2)


from pipeline import answers, shipping, tools  # noqa: E402, F401  (their commands come after these)

if __name__ == "__main__":
    main()
