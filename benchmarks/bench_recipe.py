"""What a recipe scores, over seeds, and how long it takes: the figures its docstring states.

    python -m benchmarks.bench_recipe --recipe cpu --seeds 0,1,2 [--processes 2] [--jobs 2] [--set NAME=VALUE] --out F

Each seed is a whole `python -m pipeline solve`, one after the other or --jobs at once. The result file names commit,
command, versions and hardware.
"""

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from augment.text_files import read_json
from pipeline.runtime.provenance import processor


def run_seed(recipe: str, seed: int, folder: Path, processes: int | None = None, settings: Sequence[str] = ()) -> dict:
    """Score, seconds and steps of one seed, with NAME=VALUE settings on top of the recipe.

    ValueError for a folder that exists, whose figures may be old.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it or name another folder with --runs")
    chosen = [f"--set={text}" for text in (f"seed={seed}", *settings)]
    shared = () if processes is None else ("--processes", str(processes))
    start = time.monotonic()
    run_command("solve", "--recipe", recipe, "--run-dir", folder, *shared, *chosen)
    return last_metrics(folder) | {
        "seed": seed, "seconds": time.monotonic() - start, "score": read_json(folder / "score.json")
    }  # fmt: skip


def run_command(*words: str | Path) -> None:
    """Run `python -m pipeline` with these words."""
    subprocess.run([sys.executable, "-m", "pipeline", *map(str, words)], check=True)


def last_metrics(run: Path) -> dict:
    """The last line of a run's metrics."""
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def describe(recipe: str, results: list[dict], versions: dict, command: str) -> str:
    """The result file's text."""
    macros = [result["score"]["pass@2"]["macro"] for result in results]
    tasks, outputs = (results[0]["score"][name] for name in ("tasks", "outputs"))
    lines = [
        f"# Recipe `{recipe}`: {tasks} tasks, {outputs} test outputs",
        "",
        f"Macro pass@2, median of {len(results)} seeds: **{statistics.median(macros):.1%}** "
        f"(lowest {min(macros):.1%}, highest {max(macros):.1%}).",
        "",
        "| seed | macro pass@2 (95%) | micro | solved | covered | macro pass@1 | steps | examples/s | whole run |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(row, results),
        "",
        f"Command: `{command}`",
        "",
        f"Hardware: {processor()}, {versions['cores']} cores. Commit {versions['commit']}.",
        ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("commit", "cores")) + ".",
    ]
    return "\n".join(lines) + "\n"


def row(result: dict) -> str:
    """One seed as a line of the table."""
    score = result["score"]
    two, one, covered, outputs = score["pass@2"], score["pass@1"], score["coverage"], score["outputs"]
    low, high = two["macro_interval"]
    return (
        f"| {result['seed']} | {two['macro']:.1%} [{low:.1%}, {high:.1%}] | {two['micro']:.1%} "
        f"| {two['micro'] * outputs:.0f} | {covered['micro'] * outputs:.0f} | {one['macro']:.1%} "
        f"| {result['step']} | {result['examples_per_second']:.0f} | {result['seconds']:.0f} s |"
    )


def main(
    recipe: str = "cpu",
    seeds: str = "0,1,2",
    processes: Annotated[int | None, typer.Option(help="Of a seed  [default: `solve` chooses]", min=1)] = None,
    jobs: Annotated[int, typer.Option(help="Seeds at once; their seconds then say less", min=1)] = 1,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
    runs: Path = Path("runs/bench"),
) -> None:
    """Run the seeds and print the table."""
    name = recipe if processes is None else f"{recipe}-{processes}processes"
    folders, settings = {int(seed): runs / f"{name}-seed{seed}" for seed in seeds.split(",")}, assignments or []

    def run(seed: int) -> dict:
        return run_seed(recipe, seed, folders[seed], processes, settings)

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(run, folders))
    command = f"python -m benchmarks.bench_recipe {shlex.join(sys.argv[1:])}".strip()
    text = describe(recipe, results, read_json(next(iter(folders.values())) / "versions.json"), command)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
