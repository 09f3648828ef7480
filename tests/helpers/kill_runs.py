"""Commands that are killed at every point, run again, and compared with a run that was not killed."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.kill_points import UNCOUNTED, ForkServer, Point


@dataclass(frozen=True)
class KillCase:
    """A command to kill.

    Attributes:
        name: of the case.
        words: of the command line, run in a copy of the inputs.
        prepare: called in each process before the command, for what a test cannot have, such as the network.
    """

    name: str
    words: list[str]
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class Kill:
    """What came of one kill.

    Attributes:
        point: where the command was killed.
        operation: the operation there.
        problems: what is not as it would be without the kill, after the command was run again; empty if nothing is.
    """

    point: Point
    operation: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        place = "after" if self.point.after else "before"
        return (
            f"killed {place} operation {self.point.number}, {self.operation}: {'; '.join(self.problems) or 'survived'}"
        )


def points_of(operations: Sequence[str]) -> list[Point]:
    """Return every point: before each operation, after each that leaves a file not yet written, and after the last."""
    points = []
    for number, operation in enumerate(operations, 1):
        points.append(Point(number))
        if operation.startswith(("open ", "library-write ")) or number == len(operations):
            points.append(Point(number, after=True))
    return points


def kill_everywhere(
    server: ForkServer, case: KillCase, inputs: Path, work: Path, sample: int | None = None
) -> Iterator[Kill]:
    """Kill a command at every point, run it again, and yield what differs from a run that was not killed.

    Args:
        server: runs the commands.
        case: the command.
        inputs: the files that it needs; they are copied for every point.
        work: the folder to run in; it is emptied for every point.
        sample: how many points to try, evenly spread; None for all.

    Raises:
        RuntimeError: if the command fails without a kill.
    """
    expected, operations = run_undisturbed(server, case, inputs, work)
    points = points_of(operations)
    if sample and sample < len(points):
        points = [points[round(place * (len(points) - 1) / (sample - 1))] for place in range(sample)]
    for point in points:
        _restore(inputs, work)
        killed = server.run(case.words, work, point, case.prepare)
        if killed.code != -signal.SIGKILL:
            continue  # a thread's operations may be fewer than in the first run, and then it ends before the point
        again = server.run(case.words, work, None, case.prepare)
        problems = compare(expected, snapshot(work))
        if again.code:
            problems.insert(0, f"exit code {again.code}: {' '.join(again.said.split())[-300:]}")
        yield Kill(point, killed.operations[-1], tuple(problems))


def run_undisturbed(server: ForkServer, case: KillCase, inputs: Path, work: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the files that a command leaves, and its operations."""
    _restore(inputs, work)
    ended = server.run(case.words, work, None, case.prepare)
    if ended.code:
        raise RuntimeError(f"{case.name} fails by itself (exit code {ended.code}): {ended.said}")
    return snapshot(work), ended.operations


def _restore(inputs: Path, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(inputs, work)


CLOCKS = ("seconds", "examples_per_second", "training_seconds", "sha256", "files", "submission_sha256")
"""Names in JSON files of what depends on time, and of digests over it."""
UNCOMPARED = ("log.txt", "report.html", "README.md", "table.md", "incidents.json", *UNCOUNTED)
"""Files whose text has times, or tells how often a command was started; they must be there or not be there."""


def snapshot(folder: Path) -> dict[str, Any]:
    """Return every file and folder inside a folder by relative path, with the content that does not depend on time."""
    return {str(path.relative_to(folder)): read_without_clocks(path) for path in sorted(folder.rglob("*"))}


def read_without_clocks(path: Path) -> Any:
    """Return a file's content without times; None for a folder, "" for a file that is not compared."""
    if path.is_dir():
        return None
    if path.name in UNCOMPARED:
        return ""
    content = path.read_bytes()
    try:
        if path.suffix == ".jsonl":
            return [without_clocks(json.loads(line)) for line in content.splitlines()]
        return without_clocks(json.loads(content)) if path.suffix == ".json" else content
    except ValueError:  # a file that a kill cut short is different
        return content


def without_clocks(value: Any) -> Any:
    """Return a JSON value without what depends on time."""
    if isinstance(value, dict):
        return {name: without_clocks(member) for name, member in value.items() if name not in CLOCKS}
    return [without_clocks(member) for member in value] if isinstance(value, list) else value


def compare(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a line for each path that is missing, left over or different."""
    lines = [f"missing: {name}" for name in expected if name not in found]
    lines += [f"left over: {name}" for name in found if name not in expected]
    return lines + [f"different: {name}" for name in expected if name in found and found[name] != expected[name]]
