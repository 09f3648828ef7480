"""Writes the page of a table from the results of its trials, as Markdown, JSON and plots.

Every row has its mean over seeds, their standard deviation, the value of each seed, and the published figures.
Published orderings are judged by a fixed rule (`pipeline.experiments.verdicts.judge`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from statistics import mean
from typing import Any

from augment.storage import write_file, write_json
from pipeline.config.setting_names import flatten
from pipeline.experiments.plots import Dots, Series, draw_dots, draw_series
from pipeline.experiments.spec import Row, Table
from pipeline.experiments.verdicts import Judgement, ResultLine, Results, judge, make_line, percent


@dataclass(frozen=True)
class Heading:
    """The heading of a page.

    Attributes:
        name: name of the table.
        scale: scale of the trials.
        settings: the --set overrides of every row.
        command: the command that reproduces the page.
    """

    name: str
    scale: str
    settings: tuple[str, ...]
    command: str

    @property
    def at(self) -> str:
        """The scale and overrides in words, for the page and its plots."""
        return f"{self.scale} scale" + (f" with {', '.join(self.settings)}" if self.settings else "")


def write_page(out: Path, heading: Heading, table: Table, rows: Sequence[Row], results: Results) -> Path:
    """Write table.md, table.json and the plots; returns the path of table.md."""
    lines = [make_line(row, results) for row in rows]
    by_name = {line.row.name: line for line in lines}
    judgements = [judge(claim, by_name) for claim in table.claims]
    plots = dict(_plots(heading, table, lines))
    for file, svg in plots.items():
        write_file(out / file, svg)
    write_json(out / "table.json", _to_json(heading, table, lines, judgements))
    text = "\n".join(_markdown(heading, table, lines, judgements, list(plots)))
    write_file(out / "table.md", text + "\n")
    return out / "table.md"


def _to_json(
    heading: Heading, table: Table, lines: Sequence[ResultLine], judgements: Sequence[Judgement]
) -> dict[str, Any]:
    rows = [
        {
            "row": line.row.name,
            "published": dict(zip(table.columns, line.row.published, strict=False)),
            "mean": line.mean,
            "deviation": line.deviation,
            "values": line.values,
            "by prediction step": line.steps,
            "more": line.more,
            "failed": line.failed,
            "trials": line.results,
        }
        for line in lines
    ]
    return {
        "table": heading.name, "scale": heading.scale, "set": heading.settings, "source": table.source, "rows": rows,
        "orderings": [asdict(judgement) for judgement in judgements],
    }  # fmt: skip


SHOWN = (
    *("model.hidden", "model.heads", "model.expansion", "model.inner_multiple", "model.id_slots"),
    *("model.layers", "model.h_cycles", "model.l_cycles"),
    *(
        "model.mixer",
        "model.max_steps",
        "model.exploration",
        "puzzles.augmentations",
        "train.batch_size",
        "train.steps",
    ),
    *("train.lr", "train.warmup", "train.weight_decay", "train.average", "train.symmetry", "train.symmetries"),
)
"""Settings that the page lists where all rows share them; table.json has all settings."""

LEGEND = (
    "Ours: for logic puzzles, the share of tests with every cell right, after as many supervision steps as in "
    "training; for ARC tasks, macro pass@2 of the vote. SD: standard deviation over seeds. Passes: forward passes per "
    "optimizer step. Depth: consecutive layers in a supervision step. Steps: optimizer steps. Seconds: training time, "
    "mean over seeds."
)

REMARKS = {
    "smoke": "**Smoke scale: this only shows that the table runs. Its figures mean nothing.**",
    "cpu": "Small networks on small puzzles, trained for ten seconds to five minutes on one core each. Results at this "
    "scale may differ from those at the published size.",
    "gpu": "Trained for minutes on one GPU each, on generated puzzles unless their name states another source.",
    "paper": "The published data, sizes and numbers of steps, with TRM's learning rates for every row.",
}


def _markdown(
    heading: Heading, table: Table, lines: Sequence[ResultLine], judgements: Sequence[Judgement], plots: Sequence[str]
) -> Iterator[str]:
    results = [result for line in lines for result in line.results]
    seeds = max((len(line.values) for line in lines), default=0)
    yield from (f"# {table.title}: `{heading.name}` at {heading.at}", "")
    yield from (f"After {table.source}. {REMARKS[heading.scale]}", "")
    if results:
        yield from (*_provenance(results, seeds), "")
    yield from (f"![{table.title}, {heading.at}]({plot})" for plot in plots)
    yield ""
    more = list(dict.fromkeys(name for line in lines for name in line.more))
    ours = ("ours, %", "SD", "least to most", "each seed", *more, *FACTS)
    header = ("row", *ours, *(f"published: {column}" for column in table.columns))
    yield from (_row(header), _row(["---"] * len(header)))
    yield from (_row(_cells(line, more, len(table.columns))) for line in lines)
    yield ""
    yield from (LEGEND, "")
    if table.note:
        yield from (table.note, "")
    if table.steps:
        yield from _step_table(lines)
    yield from _orderings(judgements, seeds)
    yield from ("## Settings", "", f"`{heading.command}` reproduces this page.", "")
    yield from _settings(lines)


def _provenance(results: Sequence[dict[str, Any]], seeds: int) -> Iterator[str]:
    """Yield a line for each distinct set of data, and for each distinct set of hardware and versions."""
    for facts in {str(result["data"]): result["data"] for result in results}.values():
        yield "- data: " + ", ".join(f"{name} {value}" for name, value in facts.items())
    yield f"- seeds: {seeds}; the puzzles are the same for every row and seed"
    for versions in {str(result["versions"]): result["versions"] for result in results}.values():
        yield "- made by: " + ", ".join(f"{name} {value}" for name, value in versions.items() if value)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


FACTS = ("tests", "parameters", "passes", "depth", "steps", "seconds")


def _cells(line: ResultLine, more: Sequence[str], columns: int) -> list[str]:
    published = [*line.row.published, *[""] * (columns - len(line.row.published))]
    if not line.results:
        blank = [""] * (3 + len(more) + len(FACTS))
        return [line.row.name, f"failed: {line.failed[0]}" if line.failed else "not run", *blank, *published]
    first = line.results[0]
    values = line.values
    failed = f" ({len(line.failed)} failed: {line.failed[0]})" if line.failed else ""
    return [
        line.row.name,
        f"**{percent(line.mean)}**{failed}",
        percent(line.deviation),
        f"{percent(min(values))} to {percent(max(values))}",
        ", ".join(map(percent, values)),
        *(line.more.get(name, "") for name in more),
        f"{first['tests']}",
        f"{first['parameters']:,}",
        f"{first['passes']}",
        f"{first['depth']}",
        f"{first['config']['train']['steps']:,}",
        f"{mean(result['training_seconds'] for result in line.results):.0f}",
        *published,
    ]


def _step_table(lines: Sequence[ResultLine]) -> Iterator[str]:
    """Yield a table of the mean accuracy after 1, 2, 4, 8 ... supervision steps of prediction."""
    # step & (step - 1) is 0 for powers of two only.
    numbers = sorted({step for line in lines for step in range(1, len(line.steps) + 1) if step & (step - 1) == 0})
    yield from ("## By supervision steps of prediction, %", "")
    yield from (_row(["trained with", *map(str, numbers)]), _row(["---"] * (1 + len(numbers))))
    for line in lines:
        if line.steps:
            yield _row([line.row.name, *(percent(line.steps[step - 1]) for step in numbers)])
    yield ""


def _orderings(judgements: Sequence[Judgement], seeds: int) -> Iterator[str]:
    yield from ("## Published orderings", "")
    if seeds > 1:
        yield (
            "Reproduced (or reversed): every seed of one row is above every seed of the other, and a sign test on test "
            "inputs, pooled over seeds, gives p < 0.05. The first condition holds by chance, in one direction or the "
            f"other, for {seeds} seeds of equally good rows once in {comb(2 * seeds, seeds) // 2} times. Every other "
            "result is called not told apart. (The test inputs are the same for every seed, which makes p smaller than "
            "it should be, so p alone never decides.)"
        )
        yield ""
    yield from (_row(["above", "below", "here", "difference, points", "seeds", "test inputs", "p"]), _row(["---"] * 7))
    for judgement in judgements:
        cells = [judgement.claim.above, judgement.claim.below, f"**{judgement.verdict}**"]
        if judgement.verdict != "not run":
            cells += [
                f"{100 * judgement.difference:+.1f}",
                judgement.seeds,
                f"+{judgement.gained} -{judgement.lost}",
                f"{judgement.p_value:.2g}",
            ]
        yield _row(cells + [""] * (7 - len(cells)))
    yield ""


def _settings(lines: Sequence[ResultLine]) -> Iterator[str]:
    """Yield, for each source, the settings that its rows share and those that differ, as --set writes them."""
    flat = {line.row.name: flatten(line.results[0]["config"]) for line in lines if line.results}
    for source in dict.fromkeys(config["source"] for config in flat.values()):
        configs = {name: config for name, config in flat.items() if config["source"] == source}
        first = next(iter(configs.values()))
        shared = {name for name in first if all(config[name] == first[name] for config in configs.values())}
        common = [f"{name}={first[name]}" for name in SHOWN if name in shared]
        yield f"All rows of {source}: {', '.join(common)}."
        yield ""
        for name, config in configs.items():
            own = [f"{setting}={json.dumps(config[setting])}" for setting in config if setting not in shared]
            yield f"- {name}: {', '.join(own) or 'no other settings'}"
        yield ""


def _plots(heading: Heading, table: Table, lines: Sequence[ResultLine]) -> Iterator[tuple[str, str]]:
    """Yield the name and SVG text of each plot."""
    plotted = [line for line in lines if line.values]
    if not plotted:
        return
    name = heading.name
    title = f"{table.title}, {heading.at}"
    dots = [Dots(line.row.name, line.values, _figure(line.row, table)) for line in plotted]
    yield f"{name}.svg", draw_dots(title, dots, any(row.published is not None for row in dots))
    if table.steps:
        curves = [Series(line.row.name, list(enumerate(line.steps, 1))) for line in plotted]
        yield f"{name}-steps.svg", draw_series(title, "supervision steps in prediction", curves)
    # Rows that share a training have the same curve, which is drawn once.
    trainings = [Series(name, _curve(line)) for name, line in {line.row.training: line for line in plotted}.items()]
    x_label = "training step: examples that left their slot right"
    yield f"{name}-training.svg", draw_series(title, x_label, trainings, log=False)


def _curve(line: ResultLine) -> list[tuple[int, float]]:
    """Return points (training step, share of training examples that are right), averaged over seeds."""
    columns = zip(*(result["curve"] for result in line.results), strict=False)
    return [(points[0][0], mean(share for _, share in points)) for points in columns]


def _figure(row: Row, table: Table) -> float | None:
    """Return the published accuracy as a share; None where the publication has no number."""
    for column, figure in zip(table.columns, row.published, strict=False):
        if column.endswith(", %"):
            try:
                return float(figure) / 100
            except ValueError:
                return None
    return None
