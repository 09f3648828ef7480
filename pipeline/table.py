"""Running a table: its trials one after the other or several at once, then its page.

OUT/ROW/seed-N is a trial's run folder. A table that is stopped goes on where it was; what is done is not made again.
"""

import multiprocessing
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.budget import format_duration
from pipeline.config import ConfigError, override
from pipeline.rundir import Console
from pipeline.scales import Scale, base_config
from pipeline.table_page import Results, write_page
from pipeline.tables import Ask, Row, Table, find_table
from pipeline.trials import Trial, run_trial


@dataclass(frozen=True)
class Order:
    """What to run: a table at a scale, with so many seeds, all rows or those named, so many trials at once."""

    name: str
    scale: Scale
    seeds: int
    jobs: int
    out: Path
    rows: tuple[str, ...] = ()
    data: Path | None = None


def run_table(order: Order, console: Console) -> bool:
    """Run what is not done yet and write the page; whether every trial came to its end."""
    table = find_table(order.name)
    rows = choose_rows(table, order.rows)
    trials = list(make_trials(table, rows, order))
    results: Results = {}
    todo = []
    for trial in trials:
        if (found := trial.result) is None:
            todo.append(trial)
        else:
            results[trial.name, trial.seed] = found
    console.log(f"{order.name} at {order.scale} scale: {len(todo)} trainings to do, {len(results)} done: {order.out}")
    began = time.monotonic()
    for done, (trial, result) in enumerate(_work_off(todo, order.jobs), 1):
        results[trial.name, trial.seed] = result
        left = (time.monotonic() - began) / done * (len(todo) - done)
        console.log(
            f"{done} of {len(todo)}: {trial.name}, seed {trial.seed}: {_say(result)} ({format_duration(left)} left)"
        )
        write_page(order.out, order.name, table, rows, order.scale, results)
    page = write_page(order.out, order.name, table, rows, order.scale, results)
    console.log(f"written: {page}")
    return not any("failed" in result for result in results.values())


def choose_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """The rows of these names, or all; ConfigError for a name that is none."""
    known = {row.name for row in table.rows}
    for name in names:
        if name not in known:
            raise ConfigError(f"--rows {name}: no such row; there are {'; '.join(row.name for row in table.rows)}")
    return [row for row in table.rows if not names or row.name in names]


def make_trials(table: Table, rows: Sequence[Row], order: Order) -> Iterator[Trial]:
    """A trial for each training and seed, all trainings with one seed before those with the next."""
    steps = None
    if table.steps:
        steps = max(_config(row, order, 0).model.max_steps for row in table.rows)
    trainings = dict.fromkeys(row.training for row in rows)
    for seed in range(order.seeds):
        for name in trainings:
            asked: tuple[Ask, ...] = tuple(dict.fromkeys(row.ask for row in rows if row.training == name))
            config = _config(table.row(name), order, seed)
            yield Trial(name, seed, config, asked, steps, order.out / _folder_name(name) / f"seed-{seed}")


def _config(row: Row, order: Order, seed: int) -> Any:
    """The row's config: its changes over the base of its group."""
    base = base_config(row.group, order.scale, order.data)
    return override(base, {**row.changes(base.model), "seed": seed})


def _folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _work_off(trials: Sequence[Trial], jobs: int) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Each trial with its result, as they end; one that fails has a result that says why."""
    if jobs == 1 or len(trials) < 2:
        yield from ((trial, _try(trial)) for trial in trials)
        return
    # Set before the processes start: their libraries read it as they are loaded.
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(_try, trial): trial for trial in trials}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _try(trial: Trial) -> dict[str, Any]:
    try:
        return run_trial(trial)
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        return {"failed": " ".join(str(error).split())[:300]}


def _say(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    values = ", ".join(f"{ask} {100 * answer['value']:.1f}%" for ask, answer in result["answers"].items())
    return f"{values} in {format_duration(result['seconds'])}"
