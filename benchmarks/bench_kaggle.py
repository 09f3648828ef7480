"""Does an unattended run keep its promises, undisturbed and with seven injected faults?

    python -m benchmarks.bench_kaggle [--backbone FOLDER] [--only NAME,NAME] [--out FILE]

Each run is `solve --recipe kaggle` in the simulated Kaggle of `tests/kaggle_simulation`: network cut, read-only input,
small disk, hidden tasks whose outputs only the judge has. Eight are undisturbed, at budgets of 1 to 4 minutes; each
fault comes twice. Runs already in the folder are not made again. About 45 minutes on 2 cores. Exit code 1 if a promise
was broken.
"""

import json
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.runtime.provenance import processor, versions
from tests.kaggle_simulation.injected_faults import FAULTS
from tests.kaggle_simulation.simulation import EVALUATION_TASKS, Outcome, shipped_backbone, simulate
from tests.kaggle_simulation.watch import Look

UNDISTURBED = "undisturbed"
MINUTES = (1, 1, 2, 2, 3, 3, 4, 4)
TIMES_PER_FAULT = 2
HEAD = (
    "run", "budget, s", "used, s", "left over, s", "margin, s", "exit", "valid at looks", "answered", "solved",
    "fault at, s", "solved then", "incident", "broken promises",
)  # fmt: skip


def plan_runs(only: list[str]) -> list[tuple[str, int, float]]:
    """(name, which one of that name, budget in seconds) of each run, those named or all."""
    alone = [(UNDISTURBED, number, 60.0 * minutes) for number, minutes in enumerate(MINUTES, 1)]
    fault = [(name, number, fault.budget) for name, fault in FAULTS.items() for number in range(1, TIMES_PER_FAULT + 1)]
    return [run for run in (*alone, *fault) if not only or run[0] in only]


def run_once(name: str, number: int, budget: float, backbone: Path, folder: Path) -> Outcome:
    """What became of one run; read where it was made before."""
    root = folder / f"{name.replace(' ', '_')}_{number}"
    file = root / "outcome.json"
    if file.exists():
        return read_outcome(file)
    shutil.rmtree(root, ignore_errors=True)  # what a benchmark that was ended has left
    outcome = simulate(root.resolve(), budget, FAULTS.get(name), backbone)
    file.write_text(json.dumps(asdict(outcome)))
    return outcome


def read_outcome(file: Path) -> Outcome:
    """The opposite of writing it."""
    values = json.loads(file.read_text())
    return Outcome(**values | {"looks": [Look(**look) for look in values["looks"]]})


def describe(outcomes: list[Outcome], command: str) -> str:
    """The result file's text."""
    alone = [outcome for outcome in outcomes if outcome.name == UNDISTURBED]
    fault = [outcome for outcome in outcomes if outcome.name != UNDISTURBED]
    made = versions()
    lines = [
        f"# A run that nobody watches: `{command}`",
        "",
        f"**{count_good(fault)} of {len(fault)} faults survived, {count_good(alone)} of {len(alone)} undisturbed runs "
        "in order**: a complete and valid submission within 10 s and at every look (5 a second) until the end, in both "
        "places it is written to; no worse than the last pass (no fewer outputs right than before the fault, unless "
        "the last pass was done after it and has answers of its own); exit code 0; the margin of the budget left over, "
        "counted from outside; no process left behind; the fault noticed and said.",
        "",
        f"Hidden: the 25 tasks of the `cpu` recipe (31 test outputs: `solved` counts these) and the {EVALUATION_TASKS} "
        "smallest of ARC-AGI-2's public evaluation.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|" + "---|" * len(HEAD),
        *map(describe_outcome, outcomes),
        "",
        *(f"- {outcome.name}: {text}" for outcome in outcomes for text in outcome.incidents),
        "",
        f"{processor()}. Commit {made['commit']}, torch {made['torch']}, Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def count_good(outcomes: list[Outcome]) -> int:
    """Those that kept all promises."""
    return sum(not outcome.complaints() for outcome in outcomes)


def describe_outcome(outcome: Outcome) -> str:
    """A line of the table."""
    valid = len(outcome.looks) - len(outcome.invalid)
    fault = ("", "") if outcome.fault_at is None else (f"{outcome.fault_at:.0f}", str(outcome.solved_then))
    cells = [
        outcome.name, f"{outcome.budget:.0f}", f"{outcome.used:.1f}", f"{outcome.kept:.1f}", f"{outcome.margin:.1f}",
        str(outcome.exit), f"{valid} of {len(outcome.looks)}", f"{outcome.answered} of {outcome.inputs}",
        f"{outcome.solved} of {outcome.judged}", *fault, str(len(outcome.incidents)),
        "; ".join(outcome.complaints()).replace("\n", " ") or "none",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(
    backbone: Annotated[
        Path | None, typer.Option(help="A checkpoint to start from; by default the one shipped")
    ] = None,
    only: Annotated[str, typer.Option(help=f"Of {UNDISTURBED}, {', '.join(FAULTS)}")] = "",
    folder: Annotated[Path, typer.Option("--runs", help="Where the runs lie")] = Path("runs/kaggle"),
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Run the simulated Kaggle again and again."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := sorted(set(names) - {UNDISTURBED, *FAULTS}):
        raise typer.BadParameter(f"{', '.join(unknown)}: no such run")
    outcomes = []
    for name, number, budget in plan_runs(names):
        outcomes.append(run_once(name, number, budget, backbone or shipped_backbone(), folder))
        print(describe_outcome(outcomes[-1]), flush=True)
    text = describe(outcomes, f"python -m benchmarks.bench_kaggle {shlex.join(sys.argv[1:])}".strip())
    print(text)
    if out:
        out.write_text(text)
    if count_good(outcomes) < len(outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
