"""Runs a table: its trials, one after the other or several at once, and then the page with the results.

OUT/ROW/seed-N is the run folder of a trial. A table that was stopped resumes with the same command; finished trials are
not repeated.
"""

import re
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.run_config import ConfigError, RunConfig, override, parse_assignments
from pipeline.experiments.equal_flop import match_flop
from pipeline.experiments.paper_tables import find_table
from pipeline.experiments.scales import Scale, base_config
from pipeline.experiments.spec import Ask, Row, Table
from pipeline.experiments.table_page import Heading, write_page
from pipeline.experiments.trial import Trial
from pipeline.experiments.verdicts import Results
from pipeline.experiments.worker_pool import run_all_trials
from pipeline.runtime.console import Console
from pipeline.runtime.folder_lock import LOCK, lock_folder, locked_folder
from pipeline.runtime.machine import fit_workers
from pipeline.time_budget import format_duration
from pipeline.training.size_limits import check_training


@dataclass(frozen=True)
class TableRequest:
    """What to run.

    Attributes:
        name: the table.
        scale: the scale of its base configs.
        seeds: number of seeds, from 0.
        jobs: number of trials to run at once.
        out: the folder of the trials and the page.
        rows: names of the rows to run; empty for all.
        data: the folder of published data sets, which the scale "paper" needs.
        settings: overrides for every row, each as "NAME=VALUE".
    """

    name: str
    scale: Scale
    seeds: int
    jobs: int
    out: Path
    rows: tuple[str, ...] = ()
    data: Path | None = None
    settings: tuple[str, ...] = ()


def run_table(order: TableRequest, console: Console) -> bool:
    """Run the trials that have no result yet, and write the page; returns whether no trial failed.

    The page also has the results of earlier commands with the same `out`. It is written again after every trial, so
    that a command that is stopped leaves a page of all finished trials.
    """
    table = find_table(order.name)
    rows = choose_rows(table, order.rows)
    trials = list(make_trials(table, rows, range(order.seeds), order))
    for trial in trials:
        check_training(trial.config)
    with locked_folder(order.out, console.log):
        return _run_trials(order, table, rows, trials, console)


def _run_trials(order: TableRequest, table: Table, rows: list[Row], trials: list[Trial], console: Console) -> bool:
    jobs = fit_workers(order.jobs, "--jobs", console)
    for lock in sorted(order.out.glob(f"*/*/{LOCK}")):
        lock_folder(lock.parent, console.log)()  # one of a trial that was killed after its result was written
    pending = [trial for trial in trials if trial.result is None]
    results = {(trial.name, trial.seed): result for trial in _started_trials(table, order) if (result := trial.found)}
    finished = len(trials) - len(pending)
    console.log(
        f"{order.name} at {order.scale} scale: {len(pending)} trainings to do, {finished} done; results in {order.out}"
    )
    start = time.monotonic()
    for count, (trial, result) in enumerate(run_all_trials(pending, jobs), 1):
        results[trial.name, trial.seed] = result
        remaining = (time.monotonic() - start) / count * (len(pending) - count)
        console.log(
            f"{count} of {len(pending)}: {trial.name}, seed {trial.seed}: {_describe_result(result)} "
            f"({format_duration(remaining)} left)"
        )
        _write(order, table, rows, results)
    page = _write(order, table, rows, results)
    console.log(f"written: {page}")
    return not any("failed" in result for result in results.values())


def _started_trials(table: Table, order: TableRequest) -> Iterator[Trial]:
    """Yield a trial for every row and seed that has a folder, of this command or an earlier one."""
    folders = {row.training: order.out / _folder_name(row.training) for row in table.rows}
    seeds = {int(path.name.removeprefix("seed-")) for folder in folders.values() for path in folder.glob("seed-*")}
    rows = [row for row in table.rows if folders[row.training].exists()]
    yield from make_trials(table, rows, sorted(seeds), order)


def _write(order: TableRequest, table: Table, selected: Sequence[Row], results: Results) -> Path:
    """Write the page of the selected rows and of all other rows that have results; returns its path."""
    names = {name for name, _ in results}
    rows = [row for row in table.rows if row in selected or row.training in names]
    seeds = 1 + max((seed for _, seed in results), default=order.seeds - 1)
    words = ["table", order.name, "--scale", order.scale, "--seeds", str(seeds)]
    words += [word for row in rows for word in ("--row", row.name)] if len(rows) < len(table.rows) else []
    words += [word for setting in order.settings for word in ("--set", setting)]
    words += ["--data", "FOLDER"] if order.data else []
    heading = Heading(order.name, order.scale, order.settings, f"python -m pipeline {shlex.join(words)}")
    return write_page(order.out, heading, table, rows, results)


def choose_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """Return the rows with these names, or all rows if there are none; ConfigError for an unknown name."""
    known = {row.name for row in table.rows}
    for name in names:
        if name not in known:
            raise ConfigError(f"--row {name}: no such row", f"there are {'; '.join(row.name for row in table.rows)}")
    return [row for row in table.rows if not names or row.name in names]


def make_trials(table: Table, rows: Sequence[Row], seeds: Iterable[int], order: TableRequest) -> Iterator[Trial]:
    """Yield a trial for each training and seed.

    All trainings with one seed come before those with the next seed, so that a table that is stopped early compares
    its rows on the same seeds.
    """
    steps = None
    if table.steps:
        steps = max(_config(table, row, order, 0).model.max_steps for row in table.rows)
    trainings = dict.fromkeys(row.training for row in rows)
    for seed in seeds:
        for name in trainings:
            ways: tuple[Ask, ...] = tuple(dict.fromkeys(row.ask for row in rows if row.training == name))
            config = _config(table, table.row(name), order, seed)
            yield Trial(name, seed, config, ways, steps, order.out / _folder_name(name) / f"seed-{seed}")


def _config(table: Table, row: Row, order: TableRequest, seed: int) -> RunConfig:
    """Return a row's config: the base of its group with the row's changes and the settings for all rows.

    In a table of equal operations, its numbers of training and warm-up steps follow from those of the base.
    """
    base = base_config(row.group, order.scale, order.data)
    changes = row.changes(base.model)
    settings = parse_assignments(list(order.settings))
    for name in settings:
        if name in changes or name == "seed":
            origin = "by --seeds" if name == "seed" else f"by the row {row.name!r}"
            raise ConfigError(
                f"--set {name}: this setting is determined {origin}", "set only what is the same in every row"
            )
    config = override(base, {**changes, **settings, "seed": seed})
    return match_flop(config, override(base, settings)) if table.equal_flop else config


def _folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _describe_result(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    values = ", ".join(f"{ask} {100 * answer['value']:.1f}%" for ask, answer in result["answers"].items())
    return f"{values} in {format_duration(result['seconds'])}"
