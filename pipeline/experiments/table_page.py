"""A table's page: the results of its trials in, Markdown, JSON and plots out.

Every row has its mean over seeds, their spread and each seed's value beside the published figure. Orderings are judged
by rule: `judge` says how.
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
from pipeline.experiments.verdicts import (
    Judgement,
    ResultLine,
    Results,
    judge,
    make_line,
    percent,
)


@dataclass(frozen=True)
class Heading:
    """What a page is of.

    settings: what --set changed in every row; command: makes all that is on the page
    """

    name: str
    scale: str
    settings: tuple[str, ...]
    command: str

    @property
    def at(self) -> str:
        """The scale in words, for every page and picture."""
        return f"{self.scale} scale" + (f" with {', '.join(self.settings)}" if self.settings else "")


def write_page(out: Path, heading: Heading, table: Table, rows: Sequence[Row], results: Results) -> Path:
    """Write table.md, table.json and the plots; returns the first."""
    lines = [make_line(row, results) for row in rows]
    by_name = {line.row.name: line for line in lines}
    judged = [judge(claim, by_name) for claim in table.claims]
    plots = dict(_plots(heading, table, lines))
    for file, drawn in plots.items():
        write_file(out / file, drawn)
    write_json(out / "table.json", _to_json(heading, table, lines, judged))
    text = "\n".join(_markdown(heading, table, lines, judged, list(plots)))
    write_file(out / "table.md", text + "\n")
    return out / "table.md"


def _to_json(
    heading: Heading, table: Table, lines: Sequence[ResultLine], judged: Sequence[Judgement]
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
        "orderings": [asdict(each) for each in judged],
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
"""Settings that a reader asks for first; table.json has all of them."""

LEGEND = (
    "Ours: of boards the share of tests with every cell right, after as many supervision steps as in training; of ARC "
    "tasks macro pass@2 by votes. SD: over seeds. Passes: forward passes for each optimizer step. Depth: layers one "
    "after the other in a supervision step. Steps: optimizer steps. Seconds: of training, mean over seeds."
)

REMARKS = {
    "smoke": "**Smoke scale: this only shows that the table runs. Its figures mean nothing.**",
    "cpu": "Small networks on small puzzles, ten seconds to five minutes of one core each: what holds here need not "
    "hold at the published size, and the other way round.",
    "gpu": "Minutes of one GPU each, on puzzles that we generated where their names do not say otherwise.",
    "paper": "The published data, sizes and numbers of steps, with TRM's rates for every row.",
}


def _markdown(
    heading: Heading, table: Table, lines: Sequence[ResultLine], judged: Sequence[Judgement], plots: Sequence[str]
) -> Iterator[str]:
    made = [result for line in lines for result in line.results]
    seeds = max((len(line.values) for line in lines), default=0)
    yield from (f"# {table.title}: `{heading.name}` at {heading.at}", "")
    yield from (f"After {table.source}. {REMARKS[heading.scale]}", "")
    if made:
        yield from (*_circumstances(made, seeds), "")
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
    yield from _orderings(judged, seeds)
    yield from (
        "## Settings",
        "",
        f"`{heading.command}` makes all of it.",
        "",
    )
    yield from _settings(lines)


def _circumstances(made: Sequence[dict[str, Any]], seeds: int) -> Iterator[str]:
    """Data, hardware and versions, as far as they are the same a line each."""
    for facts in {str(result["data"]): result["data"] for result in made}.values():
        yield "- data: " + ", ".join(f"{name} {value}" for name, value in facts.items())
    yield f"- seeds: {seeds}; the puzzles are the same for every row and seed"
    for about in {str(result["versions"]): result["versions"] for result in made}.values():
        yield "- made by: " + ", ".join(f"{name} {value}" for name, value in about.items() if value)


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
    """Mean accuracy by supervision step of prediction."""
    numbers = sorted({step for line in lines for step in range(1, len(line.steps) + 1) if step & (step - 1) == 0})
    yield from ("## By supervision steps of prediction, %", "")
    yield from (_row(["trained with", *map(str, numbers)]), _row(["---"] * (1 + len(numbers))))
    for line in lines:
        if line.steps:
            yield _row([line.row.name, *(percent(line.steps[step - 1]) for step in numbers)])
    yield ""


def _orderings(judged: Sequence[Judgement], seeds: int) -> Iterator[str]:
    yield from ("## Published orderings", "")
    if seeds > 1:
        yield (
            f"Reproduced (or reversed): every seed of the one is above every seed of the other, which {seeds} seeds of "
            f"equally good rows do, one way or the other, once in {comb(2 * seeds, seeds) // 2} times; and a sign test "
            "on test inputs, pooled over seeds, gives p < 0.05. All else is not told apart. (The inputs are the same "
            "for every seed, which makes p smaller than it should be: it never decides alone.)"
        )
        yield ""
    yield from (_row(["above", "below", "here", "difference, points", "seeds", "test inputs", "p"]), _row(["---"] * 7))
    for each in judged:
        shown = [each.claim.above, each.claim.below, f"**{each.verdict}**"]
        if each.verdict != "not run":
            shown += [
                f"{100 * each.difference:+.1f}",
                each.seeds,
                f"+{each.gained} -{each.lost}",
                f"{each.p_value:.2g}",
            ]
        yield _row(shown + [""] * (7 - len(shown)))
    yield ""


def _settings(lines: Sequence[ResultLine]) -> Iterator[str]:
    """What all rows of a source share, and what each has of its own, in the words of --set."""
    flat = {line.row.name: flatten(line.results[0]["config"]) for line in lines if line.results}
    for source in dict.fromkeys(each["source"] for each in flat.values()):
        mine = {name: each for name, each in flat.items() if each["source"] == source}
        first = next(iter(mine.values()))
        shared = {name for name in first if all(each[name] == first[name] for each in mine.values())}
        known = [f"{name}={first[name]}" for name in SHOWN if name in shared]
        yield f"All rows of {source}: {', '.join(known)}."
        yield ""
        for name, each in mine.items():
            own = [f"{setting}={json.dumps(each[setting])}" for setting in each if setting not in shared]
            yield f"- {name}: {', '.join(own) or 'as they are'}"
        yield ""


def _plots(heading: Heading, table: Table, lines: Sequence[ResultLine]) -> Iterator[tuple[str, str]]:
    """Names of files and what is in them."""
    drawn = [line for line in lines if line.values]
    if not drawn:
        return
    name = heading.name
    title = f"{table.title}, {heading.at}"
    dots = [Dots(line.row.name, line.values, _figure(line.row, table)) for line in drawn]
    yield f"{name}.svg", draw_dots(title, dots, any(each.published is not None for each in dots))
    if table.steps:
        curves = [Series(line.row.name, list(enumerate(line.steps, 1))) for line in drawn]
        yield f"{name}-steps.svg", draw_series(title, "supervision steps in prediction", curves)
    learnt = [Series(name, _curve(line)) for name, line in {line.row.training: line for line in drawn}.items()]
    what = "training step: examples that left their slot right"
    yield f"{name}-training.svg", draw_series(title, what, learnt, log=False)


def _curve(line: ResultLine) -> list[tuple[int, float]]:
    """(training step, share right of the examples trained on), the mean over seeds."""
    columns = zip(*(result["curve"] for result in line.results), strict=False)
    return [(points[0][0], mean(share for _, share in points)) for points in columns]


def _figure(row: Row, table: Table) -> float | None:
    """The published accuracy, where a number is printed."""
    for column, figure in zip(table.columns, row.published, strict=False):
        if column.endswith(", %"):
            try:
                return float(figure) / 100
            except ValueError:
                return None
    return None
