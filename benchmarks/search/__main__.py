"""Search for better settings: run them on tasks that no recipe is scored on, and see which are better.

    python -m benchmarks.search run NAME [--tasks six] [--seeds 0,1,2] [--flop 1e14 | --seconds 300 | --steps N]
        [--recipe cpu_trm] [--set train.lr=2e-3]... [--jobs 2] [--file FILE]
    python -m benchmarks.search board [--tasks six] [--against shipped] [--file FILE]

NAME is a setting of `benchmarks/search/settings.py`, or a new one that --recipe and --set describe. Every seed is
trained in a process of its own on one thread, and appends one line to the file.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console as Screen
from rich.text import Text

from benchmarks.search.board import leaderboard, place_of
from benchmarks.search.records import FILE, append, read, refuse_other_meaning
from benchmarks.search.settings import find_setting
from benchmarks.search.tasks import SETS, find_tasks
from benchmarks.search.trial import Allowance, Trial, run_trial
from pipeline.config.run_config import ConfigError, parse_assignments
from pipeline.runtime.stop_signals import end_with

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
File = Annotated[Path, typer.Option(help="The file of results, one JSON object a line")]


@app.command("run")
def run_command(
    name: Annotated[str, typer.Argument(help="A setting of the table, or the name of a new one")],
    tasks: Annotated[str, typer.Option(help=f"One of {', '.join(SETS)}")] = "six",
    seeds: str = "0,1,2",
    recipe: Annotated[str | None, typer.Option(help="Of a new setting  [default: cpu_trm]")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    flop: Annotated[float | None, typer.Option(help="Train for so many floating-point operations")] = None,
    seconds: Annotated[float | None, typer.Option(help="Train for so long, the schedule fitted to it")] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many steps")] = None,
    jobs: Annotated[int, typer.Option(help="Seeds at once, each on one thread", min=1)] = 1,
    limit: Annotated[int | None, typer.Option(help="Only the first N tasks of the set", min=1)] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Allow the recipe's own tasks")] = False,
    file: File = FILE,
) -> None:
    """Train and score a setting once for each seed."""
    setting = find_setting(name, recipe, parse_assignments(assignments or []))
    setting.config()
    refuse_other_meaning(read(file) if file.exists() else [], name, setting)
    chosen = tuple(find_tasks(tasks, confirm, limit))
    allowance = choose_allowance(flop, seconds, steps)
    task_set = tasks if limit is None else f"{tasks}[:{limit}]"
    trials = [Trial(name, setting, task_set, chosen, seed, allowance) for seed in parse_seeds(seeds)]
    for record in run_trials(trials, jobs):
        append(file, record)
        print(summary(record), flush=True)


@app.command("board")
def board_command(
    tasks: Annotated[str | None, typer.Option(help="Only results on this set")] = None,
    against: Annotated[str | None, typer.Option(help="Compare every setting with this one")] = None,
    file: File = FILE,
) -> None:
    """Print the leaderboard, a table for every set of tasks and budget."""
    print(leaderboard(read(file), tasks, against))


def choose_allowance(flop: float | None, seconds: float | None, steps: int | None) -> Allowance | None:
    """The one that is given, None for none; ConfigError for several."""
    given = [
        allowance
        for allowance in (
            None if flop is None else Allowance("flop", flop),
            None if seconds is None else Allowance("seconds", seconds),
            None if steps is None else Allowance("steps", steps),
        )
        if allowance
    ]
    if len(given) > 1:
        raise ConfigError(f"give one of {', '.join(f'--{allowance.unit}' for allowance in given)}, not several")
    return given[0] if given else None


def parse_seeds(text: str) -> list[int]:
    """The seeds of "0,1,2"; ConfigError where one is no number, or is there twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise ConfigError(f"--seeds {text}: write different whole numbers with commas, for example 0,1,2")
    return list(map(int, parts))


def run_trials(trials: list[Trial], jobs: int) -> Iterator[dict[str, Any]]:
    """The record of every trial as it is done, `jobs` at once, each in a process of its own.

    ValueError for the seeds that failed, saying why, once the records of the others are out.
    """
    os.environ.update(ONE_THREAD)  # read by the processes that are started from now on
    failed = []
    with ProcessPoolExecutor(jobs, get_context("spawn"), end_with, (os.getpid(),)) as pool:
        waiting = {pool.submit(run_trial, trial): trial for trial in trials}
        try:
            for done in as_completed(waiting):
                try:
                    record = done.result()
                except ValueError as error:
                    failed.append(f"seed {waiting[done].seed}: {error}")
                    continue
                yield record
        finally:
            pool.shutdown(cancel_futures=True)
    if failed:
        raise ValueError("; ".join(failed))


def summary(record: dict[str, Any]) -> str:
    """One line on a run that is done."""
    tasks, budget = place_of(record)
    exact = "unknown" if record["exact"] is None else f"{record['exact']:.2f}"
    return (
        f"{record['name']} on {tasks}, {budget}: seed {record['seed']}, {record['steps']:,} steps "
        f"({record['examples']:,} examples, {record['flop']:.3g} FLOP) in {record['seconds']:.0f} s, "
        f"exact {exact}, right {record['right']:.3f}, macro pass@2 {record['macro']:.1%}, "
        f"solved {record['solved']} covered {record['covered']} of {record['outputs']}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user's error becomes one message and exit code 2."""
    try:
        app(sys.argv[1:] if arguments is None else arguments)
    except (ValueError, OSError) as error:
        Screen(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
