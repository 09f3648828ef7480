"""The leaderboard: settings beside each other at the same budget on the same tasks, and each against a baseline."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.search.records import Record
from submissions.compare import SMALLEST, sign_test

Place = tuple[str, str]
"""Set of tasks and budget: what figures must share to be compared."""

UNITS = {"flop": "FLOP", "seconds": "s of training", "steps": "steps"}


@dataclass(frozen=True)
class Entry:
    """One setting at one place: its latest record of each seed."""

    name: str
    seeds: dict[int, Record]

    def values(self, figure: str) -> list[float]:
        """A figure of every seed that has it."""
        return [record[figure] for record in self.seeds.values() if record.get(figure) is not None]

    def middle(self, figure: str) -> float:
        """The median over seeds; 0 where none has the figure."""
        return median(self.values(figure) or [0.0])


@dataclass(frozen=True)
class Paired:
    """Test outputs that only the one (gained) or only the other (lost) solved, pooled over the seeds both have.

    p_value: two-sided sign test on them. It takes all for independent; those of one test input under several seeds are
    not quite, so the true p is somewhat higher.
    """

    gained: int
    lost: int
    seeds: int

    @property
    def p_value(self) -> float:
        """Between 0 and 1; 1 where nothing tells the two apart."""
        return sign_test(self.gained, self.lost)

    @property
    def text(self) -> str:
        """As the table says it."""
        p = f"p = {self.p_value:.3f}" if self.p_value >= SMALLEST else f"p < {SMALLEST}"
        return f"+{self.gained} -{self.lost}, {p} ({self.seeds} seeds)" if self.seeds else "no seed in common"


def place_of(record: Record) -> Place:
    """The set of tasks and the budget as text, such as ("six", "1e+14 FLOP")."""
    budget = record["budget"]
    return record["tasks"], f"{budget['amount']:g} {UNITS[budget['unit']]}"


def group(records: Iterable[Record]) -> dict[Place, dict[str, Entry]]:
    """The entries of every place by name; of a seed that was run twice the later record counts."""
    places: dict[Place, dict[str, Entry]] = {}
    for record in records:
        entries = places.setdefault(place_of(record), {})
        entry = entries.setdefault(record["name"], Entry(record["name"], {}))
        entry.seeds[record["seed"]] = record
    return places


def compare(entry: Entry, baseline: Entry) -> Paired:
    """An entry against the baseline on the test outputs that both were asked, seed by seed."""
    shared = sorted(entry.seeds.keys() & baseline.seeds.keys())
    gained = 0
    lost = 0
    for seed in shared:
        ours, theirs = (each.seeds[seed]["solved_outputs"] for each in (entry, baseline))
        asked = ours.keys() & theirs.keys()
        gained += sum(ours[output] and not theirs[output] for output in asked)
        lost += sum(theirs[output] and not ours[output] for output in asked)
    return Paired(gained, lost, len(shared))


def leaderboard(records: Iterable[Record], tasks: str | None = None, against: str | None = None) -> str:
    """A table for every place, best median of macro pass@2 first.

    tasks: only this set; against: the name of the setting that every other is compared with

    Raises:
        ValueError: where there is no such set in the file, or nowhere a setting of that name.
    """
    places = {place: entries for place, entries in group(records).items() if tasks in (None, place[0])}
    if not places:
        raise ValueError(f"there are no results on tasks {tasks!r}" if tasks else "there are no results yet")
    known = sorted({name for entries in places.values() for name in entries})
    if against is not None and against not in known:
        raise ValueError(f"--against {against}: no such setting in the file; there are {', '.join(known)}")
    return "\n\n".join(table(place, entries, against) for place, entries in places.items())


COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "macro": ("macro pass@2", "{:.1%}".format),
    "solved": ("solved", "{:g}".format),
    "covered": ("covered", "{:g}".format),
    "right": ("right", "{:.3f}".format),
    "exact": ("exact in training", "{:.2f}".format),
    "seconds": ("seconds", "{:,.0f}".format),
    "steps": ("steps", "{:,.0f}".format),
    "weights": ("weights", "{:,.0f}".format),
}


def table(place: Place, entries: dict[str, Entry], against: str | None) -> str:
    """One place: medians over seeds, and from the lowest to the highest where they differ."""
    best_first = sorted(entries.values(), key=lambda entry: -entry.middle("macro"))
    outputs = max(len(record["solved_outputs"]) for entry in best_first for record in entry.seeds.values())
    head = ["setting", "seeds", *(title for title, _ in COLUMNS.values()), *([f"against {against}"] if against else [])]
    lines = [
        f"Tasks `{place[0]}` ({outputs} test outputs), {place[1]}; median (lowest to highest):",
        "",
        *(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head))),
        *(f"| {' | '.join(row(entry, entries, against))} |" for entry in best_first),
    ]
    return "\n".join(lines)


def row(entry: Entry, entries: dict[str, Entry], against: str | None) -> list[str]:
    """The cells of a setting."""
    spreads = (spread(entry.values(figure), form) for figure, (_, form) in COLUMNS.items())
    cells = [entry.name, str(len(entry.seeds)), *spreads]
    if against is None:
        return cells
    if against not in entries or entry.name == against:
        return [*cells, ""]
    return [*cells, compare(entry, entries[against]).text]


def spread(values: list[Any], form: Callable[[float], str]) -> str:
    """The median, and where the figures differ as shown the lowest and the highest; empty for none."""
    if not values:
        return ""
    middle, low, high = (form(choose(values)) for choose in (median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"
