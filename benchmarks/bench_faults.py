"""Count the faults that commands survive, and the damaged inputs that they read or refuse.

    python -m benchmarks.bench_faults [--mutations 2000] [--format NAME]... [--command NAME]... [--out FILE]

Mutated files of every format (`tests/fuzz`) must give a right result or one message with exit code 2. Every command
that writes (`tests/helpers/kill_cases.py`) is killed at each of its file operations; the next run of the same command
must have the result of one that was not killed, and leave nothing else.
"""

import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipeline.runtime.provenance import processor, versions
from tests.fuzz.formats import FORMATS
from tests.fuzz.worker import Counts, Worker, fuzz
from tests.helpers.kill_cases import CASE, write_inputs
from tests.helpers.kill_points import ForkServer
from tests.helpers.kill_runs import Kill, kill_everywhere


@dataclass(frozen=True)
class Faults:
    """What was found: outcomes of mutations by format, and kills by command."""

    mutations: dict[str, Counts]
    kills: dict[str, list[Kill]]

    @property
    def tried(self) -> int:
        """The number of mutations."""
        return sum(counts.tried for counts in self.mutations.values())

    @property
    def failed(self) -> int:
        """The number of mutations with another outcome than a right result or a message."""
        return sum(len(counts.failures) for counts in self.mutations.values())

    @property
    def killed(self) -> int:
        """The number of kills."""
        return sum(map(len, self.kills.values()))

    @property
    def survived(self) -> int:
        """The number of kills after which the next run had the same result and nothing was left."""
        return sum(not kill.problems for kills in self.kills.values() for kill in kills)


def count_faults(formats: list[str], commands: list[str], mutations: int, sample: int | None, folder: Path) -> Faults:
    """Try mutations of the formats, and kill the commands.

    Args:
        formats: names of `FORMATS`.
        commands: names of `CASE`.
        mutations: how many of each format.
        sample: how many points each command is killed at; None for all.
        folder: for the files.
    """
    outcomes = {}
    kills = {}
    with Worker(folder / "fuzz") as worker:
        for name in formats:
            outcomes[name] = fuzz(worker, name, range(mutations))
    if commands:
        with ForkServer() as server:
            write_inputs(server, folder / "inputs")
            for name in commands:
                kills[name] = list(kill_everywhere(server, CASE[name], folder / "inputs", folder / "work", sample))
    return Faults(outcomes, kills)


def describe(faults: Faults, command: str) -> str:
    """Return the text of the result file."""
    made = versions()
    lines = [f"# Faults and damaged inputs: `{command}`", ""]
    if faults.mutations:
        good = faults.tried - faults.failed
        lines += [
            f"**{good:,} of {faults.tried:,} mutated inputs** gave a right result or one message.",
            "",
            "| format | mutations | right result | refused | failed |",
            "|---|---|---|---|---|",
            *(describe_counts(name, counts) for name, counts in faults.mutations.items()),
            "",
        ]
    if faults.kills:
        lines += [
            f"**{faults.survived:,} of {faults.killed:,} kills survived**: SIGKILL before an operation, after one that "
            "leaves a file not yet written, and after the last one. The next run had the same result, and nothing "
            "was left.",
            "",
            "| command | kills | survived |",
            "|---|---|---|",
            *(describe_kills(name, kills) for name, kills in faults.kills.items()),
            "",
        ]
    lines += _describe_failures(faults)
    lines += [f"CPU: {processor()}. Commit {made['commit']}, torch {made['torch']}, Python {made['python']}."]
    return "\n".join(lines) + "\n"


def describe_counts(name: str, counts: Counts) -> str:
    """Return a format's line of the table."""
    return f"| {name} | {counts.tried:,} | {counts.right:,} | {counts.refused:,} | {len(counts.failures):,} |"


def describe_kills(name: str, kills: list[Kill]) -> str:
    """Return a command's line of the table."""
    return f"| {name} | {len(kills)} | {sum(not kill.problems for kill in kills)} |"


def _describe_failures(faults: Faults) -> list[str]:
    """Return a list item for each kind of failed mutation and each kill that was not survived."""
    lines = [
        f"- {name}: {line}"
        for name, counts in faults.mutations.items()
        for line in counts.describe_failures().splitlines()
    ]
    lines += [f"- {name}: {kill}" for name, kills in faults.kills.items() for kill in kills if kill.problems]
    return [*lines, ""] if lines else []


def main(
    mutations: Annotated[int, typer.Option(min=0, help="Of each format")] = 2_000,
    formats: Annotated[list[str] | None, typer.Option("--format", help="Only this one; may be repeated")] = None,
    commands: Annotated[list[str] | None, typer.Option("--command", help="Only this one; may be repeated")] = None,
    sample: Annotated[int | None, typer.Option(min=2, help="Points of each command  \\[default: all]")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Count the faults that are survived; one of --format and --command leaves out the other kind."""
    chosen_formats = formats or ([] if commands else list(FORMATS))
    chosen_commands = commands or ([] if formats else list(CASE))
    with tempfile.TemporaryDirectory() as folder:
        faults = count_faults(chosen_formats, chosen_commands, mutations, sample, Path(folder))
    text = describe(faults, f"python -m benchmarks.bench_faults {shlex.join(sys.argv[1:])}".strip())
    print(text)
    if out:
        out.write_text(text)
    if faults.failed or faults.survived < faults.killed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
