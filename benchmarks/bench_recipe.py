"""What a recipe scores, over seeds, and how long it takes: the figures its docstring states.

    python -m benchmarks.bench_recipe --recipe cpu --seeds 0,1,2 --out benchmarks/results/NAME.md

Each seed is a whole `python -m pipeline solve` in a process of its own, one after the other. The result file names
commit, command, versions and hardware.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.rundir import read_json


def run_seed(recipe: str, seed: int, folder: Path, settings: Sequence[str] = ()) -> dict:
    """Score, seconds and steps of one seed, with NAME=VALUE settings on top of the recipe.

    ValueError for a folder that exists, whose figures may be old.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it or name another folder with --runs")
    words = [
        "solve",
        "--recipe",
        recipe,
        "--run",
        str(folder),
        *(f"--set={text}" for text in (f"seed={seed}", *settings)),
    ]
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "pipeline", *words], check=True)
    seconds, metrics = time.monotonic() - start, (folder / "metrics.jsonl").read_text().splitlines()
    score = read_json(folder / "score.json")
    return json.loads(metrics[-1]) | {"seed": seed, "seconds": seconds, "score": score}


def describe(recipe: str, results: list[dict], versions: dict) -> str:
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
        f"Command: `python -m benchmarks.bench_recipe --recipe {recipe} "
        f"--seeds {','.join(str(result['seed']) for result in results)}`",
        "",
        f"Hardware: {processor()}, {versions['cores']} cores. Commit {versions['commit']}.",
        ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("commit", "cores")) + ".",
    ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
    runs: Path = Path("runs/bench"),
) -> None:
    """Run the seeds and print the table."""
    folders = {int(seed): runs / f"{recipe}-seed{seed}" for seed in seeds.split(",")}
    results = [run_seed(recipe, seed, folder) for seed, folder in folders.items()]
    text = describe(recipe, results, read_json(next(iter(folders.values())) / "versions.json"))
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
