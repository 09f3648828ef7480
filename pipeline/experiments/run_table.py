"""Running a table: its trials one after the other or several at once, then its page.

OUT/ROW/seed-N is a trial's run folder. A table that is stopped goes on where it was; what is done is not made again.
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
from pipeline.time_budget import format_duration


@dataclass(frozen=True)
class TableRequest:
    """What to run: a table at a scale, with so many seeds, all rows or those named, so many trials at once.

    settings: "NAME=VALUE" over the settings of every row
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
    """Run what is not done yet and write the page, with all that is done in this folder; whether every trial ended."""
    table = find_table(order.name)
    chosen = choose_rows(table, order.rows)
    trials = list(make_trials(table, chosen, range(order.seeds), order))
    todo = [trial for trial in trials if trial.result is None]
    results = {(trial.name, trial.seed): found for trial in _begun(table, order) if (found := trial.found)}
    console.log(
        f"{order.name} at {order.scale} scale: {len(todo)} trainings to do, {len(trials) - len(todo)} done: {order.out}"
    )
    began = time.monotonic()
    for done, (trial, result) in enumerate(run_all_trials(todo, order.jobs), 1):
        results[trial.name, trial.seed] = result
        left = (time.monotonic() - began) / done * (len(todo) - done)
        console.log(
            f"{done} of {len(todo)}: {trial.name}, seed {trial.seed}: {_say(result)} ({format_duration(left)} left)"
        )
        _write(order, table, chosen, results)
    page = _write(order, table, chosen, results)
    console.log(f"written: {page}")
    return not any("failed" in result for result in results.values())


def _begun(table: Table, order: TableRequest) -> Iterator[Trial]:
    """A trial for every row and seed that has a folder: of this command, or of one before."""
    folders = {row.training: order.out / _folder_name(row.training) for row in table.rows}
    seeds = {int(path.name.removeprefix("seed-")) for each in folders.values() for path in each.glob("seed-*")}
    begun = [row for row in table.rows if folders[row.training].exists()]
    yield from make_trials(table, begun, sorted(seeds), order)


def _write(order: TableRequest, table: Table, chosen: Sequence[Row], results: Results) -> Path:
    """The page of the rows chosen now and of those that have results."""
    found = {name for name, _ in results}
    rows = [row for row in table.rows if row in chosen or row.training in found]
    seeds = 1 + max((seed for _, seed in results), default=order.seeds - 1)
    words = ["table", order.name, "--scale", order.scale, "--seeds", str(seeds)]
    words += [word for row in rows for word in ("--row", row.name)] if len(rows) < len(table.rows) else []
    words += [word for setting in order.settings for word in ("--set", setting)]
    words += ["--data", "FOLDER"] if order.data else []
    heading = Heading(order.name, order.scale, order.settings, f"python -m pipeline {shlex.join(words)}")
    return write_page(order.out, heading, table, rows, results)


def choose_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """The rows of these names, or all; ConfigError for a name that is none."""
    known = {row.name for row in table.rows}
    for name in names:
        if name not in known:
            raise ConfigError(f"--row {name}: no such row", f"there are {'; '.join(row.name for row in table.rows)}")
    return [row for row in table.rows if not names or row.name in names]


def make_trials(table: Table, rows: Sequence[Row], seeds: Iterable[int], order: TableRequest) -> Iterator[Trial]:
    """A trial for each training and seed, all trainings with one seed before those with the next."""
    steps = None
    if table.steps:
        steps = max(_config(table, row, order, 0).model.max_steps for row in table.rows)
    trainings = dict.fromkeys(row.training for row in rows)
    for seed in seeds:
        for name in trainings:
            asked: tuple[Ask, ...] = tuple(dict.fromkeys(row.ask for row in rows if row.training == name))
            config = _config(table, table.row(name), order, seed)
            yield Trial(name, seed, config, asked, steps, order.out / _folder_name(name) / f"seed-{seed}")


def _config(table: Table, row: Row, order: TableRequest, seed: int) -> RunConfig:
    """The row's config: its changes, and what is set for all rows, over the base of its group.

    Where the table wants equal operations, its steps and warm-up follow from those that the base has.
    """
    base = base_config(row.group, order.scale, order.data)
    changes = row.changes(base.model)
    settings = parse_assignments(list(order.settings))
    for name in settings:
        if name in changes or name == "seed":
            whose = "the number of --seeds" if name == "seed" else f"row {row.name!r}"
            raise ConfigError(f"--set {name}: {whose} decides it", "set what is the same in every row")
    config = override(base, {**changes, **settings, "seed": seed})
    return match_flop(config, override(base, settings)) if table.equal_flop else config


def _folder_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _say(result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    values = ", ".join(f"{ask} {100 * answer['value']:.1f}%" for ask, answer in result["answers"].items())
    return f"{values} in {format_duration(result['seconds'])}"
