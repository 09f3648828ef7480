"""What the task canvas does to accuracy: the same training on the task canvas and on the full one, over seeds.

    python -m benchmarks.bench_canvas [--seeds 0,1,2] [--jobs 2] [--out FILE]

The `cpu_trm` recipe on a board of 10x10 with a third of its steps and no budget, so that both canvases are offered the
same examples in the same order. Each run is a whole `python -m pipeline solve` in a process of its own; with `--jobs 2`
two run at once, on one thread each. `--set` changes a setting of both canvases.
"""

import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, get_args

import typer

from augment import load_tasks
from augment.text_files import read_json
from benchmarks.bench_recipe import run_seed
from benchmarks.search.trial import share_right
from pipeline.recipes.registry import recipe
from pipeline.runtime.provenance import processor
from solver.model.config import Canvas
from submissions.prediction_files import read_predictions

RECIPE = "cpu_trm"
STEPS = recipe(RECIPE).train.steps // 3
SETTINGS = ("model.board_side=10", "budget=null", f"train.steps={STEPS}")
FIGURES = ("exact", "single", "macro", "micro", "solved", "covered", "seconds")


def run_canvas(canvas: str, seed: int, runs: Path, settings: list[str]) -> dict[str, float | str]:
    """One run's figures: FIGURES, with its seed and canvas."""
    folder = runs / f"{canvas}-seed{seed}"
    result = run_seed(RECIPE, seed, folder, settings=(f"model.canvas={canvas}", *SETTINGS, *settings))
    score, config = result["score"], recipe(RECIPE)
    tasks = load_tasks(config.source, config.selection.selection())
    outputs, two = score["outputs"], score["pass@2"]
    return {
        "canvas": canvas,
        "seed": seed,
        "exact": result["exact"],
        "single": share_right(read_predictions(folder / "predictions"), tasks),
        "macro": two["macro"],
        "micro": two["micro"],
        "solved": two["micro"] * outputs,
        "covered": score["coverage"]["micro"] * outputs,
        "seconds": result["seconds"],
    }


def describe(results: list[dict], outputs: int, made: dict, command: str) -> str:
    """The result file's text."""
    lines = [
        f"# Task canvas and full canvas: `{command}`",
        "",
        f"Recipe `{RECIPE}` with {', '.join(SETTINGS)} and what the command sets; {outputs} test outputs. Exact: share "
        "of the last training steps' examples with every cell right. Single: share of single predictions, one for each "
        "augmentation, that are the right output.",
        "",
        "| canvas | seed | exact | single | macro pass@2 | micro | solved | covered | whole run |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(result["canvas"], str(result["seed"]), result) for result in results),
        *(row(canvas, "median", medians(results, canvas)) for canvas in get_args(Canvas)),
        "",
        f"{processor()}, {made['cores']} cores. Commit {made['commit']}, torch {made['torch']}, "
        f"Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def medians(results: list[dict], canvas: str) -> dict[str, float]:
    """The median of each figure over the seeds of one canvas."""
    return {name: median(result[name] for result in results if result["canvas"] == canvas) for name in FIGURES}


def row(canvas: str, seed: str, figures: dict[str, float]) -> str:
    """A line of the table."""
    exact, single, macro, micro, solved, covered, seconds = (figures[name] for name in FIGURES)
    return (
        f"| {canvas} | {seed} | {exact:.1%} | {single:.1%} | {macro:.1%} | {micro:.1%} | {solved:.0f} | {covered:.0f} "
        f"| {seconds:.0f} s |"
    )


def main(
    seeds: str = "0,1,2",
    jobs: Annotated[int, typer.Option(help="Runs at once; more than one have a thread each", min=1)] = 1,
    runs: Annotated[Path, typer.Option(help="Where the runs' folders go")] = Path("runs/canvas"),
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
) -> None:
    """Train and score both canvases with every seed."""
    if jobs > 1:
        os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    asked = [(canvas, int(seed)) for seed in seeds.split(",") for canvas in get_args(Canvas)]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda one: run_canvas(one[0], one[1], runs, assignments or []), asked))
    canvas, seed = asked[0]
    folder = runs / f"{canvas}-seed{seed}"
    outputs, made = read_json(folder / "score.json")["outputs"], read_json(folder / "versions.json")
    text = describe(results, outputs, made, f"python -m benchmarks.bench_canvas {shlex.join(sys.argv[1:])}".strip())
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
