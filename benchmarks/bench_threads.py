"""What it costs that OpenMP's threads sleep while they wait (OMP_WAIT_POLICY=passive), and what it saves.

    python -m benchmarks.bench_threads [--pairs 5] [--busy-pairs 1] [--steps 24] [--out FILE]

The recipe trains on all cores with and without the variable, in turn; and again beside another process that keeps one
core busy. The seconds are those of the steps, from metrics.jsonl. Nothing else should run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from augment.storage import write_file
from pipeline.runtime.provenance import versions

POLICIES = {"passive": {"OMP_WAIT_POLICY": "passive"}, "not set": {}}
COMMAND = [sys.executable, "-m", "pipeline"]
BUSY = "while True: pass"


def train(name: str, folder: Path, puzzles: Path, recipe: str, steps: int) -> float:
    """The seconds of the steps after the first tenth, which compile and warm up."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "NUMBA_"))}
    settings = [f"train.steps={steps}", "train.log_every=1", "ensemble=1", "budget=null"]
    words = ["train", "--puzzles", str(puzzles), "--recipe", recipe, "--run-dir", str(folder)]
    words += [word for setting in settings for word in ("--set", setting)]
    subprocess.run([*COMMAND, *words], env=environment | POLICIES[name], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines[-1]["seconds"] - lines[steps // 10]["seconds"]


def measure(pairs: int, steps: int, recipe: str, busy: bool) -> list[dict[str, float]]:
    """Seconds by policy, a dictionary for each pair."""
    found = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        build = ["build", "--score", "arc-agi-1/training", "--max-side", "5", "--augmentations", "20"]
        subprocess.run([*COMMAND, *build, "--out", str(folder / "set")], check=True)
        other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
        try:
            for pair in range(pairs):
                runs = {policy: folder / f"{pair}-{policy.replace(' ', '-')}" for policy in POLICIES}
                found.append(
                    {policy: train(policy, run, folder / "set", recipe, steps) for policy, run in runs.items()}
                )
        finally:
            if other:
                other.kill()
    return found


def describe(title: str, results: list[dict[str, float]]) -> str:
    """A line of the table: medians, and the ratio pair by pair."""
    ratios = sorted(pair["passive"] / pair["not set"] for pair in results)
    seconds = [f"{median(pair[policy] for pair in results):.1f}" for policy in POLICIES]
    return f"| {title} | {' | '.join(seconds)} | {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |"


def main(
    pairs: Annotated[int, typer.Option(min=1)] = 5,
    busy_pairs: Annotated[int, typer.Option(min=1)] = 1,
    steps: Annotated[int, typer.Option(min=20)] = 24,
    recipe: Annotated[str, typer.Option()] = "cpu_trm",
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
) -> None:
    """Run and print."""
    about = versions()
    rows = [
        describe("alone", measure(pairs, steps, recipe, busy=False)),
        describe("beside a process that keeps one core busy", measure(busy_pairs, steps, recipe, busy=True)),
    ]
    text = "\n".join(
        [
            f"# `python -m benchmarks.bench_threads --pairs {pairs} --busy-pairs {busy_pairs} --steps {steps} "
            f"--recipe {recipe}`",
            "",
            "| training | passive, s | not set, s | ratio, median of pairs (lowest to highest) |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Commit {about['commit']}, torch {about['torch']}, Python {about['python']}, {about['processor']}, "
            f"{about['cores']} cores.",
        ]
    )
    typer.echo(text)
    if out:
        write_file(out, f"{text}\n")


if __name__ == "__main__":
    typer.run(main)
