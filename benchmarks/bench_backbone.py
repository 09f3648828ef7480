"""Does a backbone help? A recipe from scratch and from a backbone, with the same steps on the same tasks, over seeds.

    python -m benchmarks.bench_backbone BACKBONE --recipe cpu_trm --seeds 0,1,2 [--set train.steps=3000] --runs DIR
    --out FILE

Each run is a whole `python -m pipeline solve`; those that are in DIR already are not repeated, and `--arm` makes only
one kind, so that both can be run side by side. The network, and so the time of a step, is the same in both. The result
file names commit, command, versions and hardware.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from augment import load_tasks
from augment.text_files import read_json
from benchmarks.bench_recipe import last_metrics, run_command
from pipeline.recipes.registry import recipe as find_recipe
from pipeline.runtime.provenance import processor
from submissions.compare import compare
from submissions.submission_file import read_submission

Arm = Literal["scratch", "backbone"]
ARMS: tuple[Arm, ...] = ("scratch", "backbone")
Pair = dict[Arm, dict[str, Any]]
"""The two runs of a seed."""


def run_arm(arm: Arm, backbone: Path, recipe: str, seed: int, folder: Path, settings: Sequence[str]) -> dict[str, Any]:
    """One run's score, steps and pace; made unless it is there."""
    if not (folder / "score.json").exists():
        chosen = [f"seed={seed}", "budget=null", *settings, *([f"checkpoint={backbone}"] if arm == "backbone" else [])]
        run_command("solve", "--recipe", recipe, "--run-dir", folder, *(f"--set={text}" for text in chosen))
    return last_metrics(folder) | {"score": read_json(folder / "score.json"), "folder": folder}


def describe(recipe: str, results: dict[int, Pair], backbone: Path, command: str) -> str:
    """The result file's text."""
    first = next(iter(results.values()))["scratch"]
    made, score = read_json(first["folder"] / "versions.json"), first["score"]
    lines = [
        f"# From a backbone and from scratch: recipe `{recipe}`, {first['step']:,} steps, "
        f"{score['tasks']} tasks, {score['outputs']} test outputs",
        "",
        *(
            f"Macro pass@2 {name}: {summary(results, arm)}."
            for arm, name in zip(ARMS, ("from scratch", "from the backbone"), strict=True)
        ),
        "",
        "| seed | start | macro pass@2 (95%) | solved | covered | macro pass@1 | loss at the end | exact in training |",
        "|---|---|---|---|---|---|---|---|",
        *(row(seed, arm, pair[arm]) for seed, pair in results.items() for arm in ARMS),
        "",
        *(against(seed, pair, recipe) for seed, pair in results.items()),
        "",
        "Held beside each other at equal steps, since a step costs the same in both: "
        + ", ".join(
            f"{arm} {statistics.median(pace(pair[arm]) for pair in results.values()):.0f} examples/s" for arm in ARMS
        )
        + " (they shared the machine).",
        "",
        f"The backbone's card: `{backbone}/README.md`. Command: `{command}`",
        "",
        f"Hardware: {processor()}, {made['cores']} cores. Commit {made['commit']}.",
        ", ".join(f"{name} {version}" for name, version in made.items() if name not in ("commit", "cores")) + ".",
    ]
    return "\n".join(lines) + "\n"


def summary(results: dict[int, Pair], arm: Arm) -> str:
    """Median and all seeds."""
    macros = [pair[arm]["score"]["pass@2"]["macro"] for pair in results.values()]
    return f"median **{statistics.median(macros):.1%}** ({', '.join(f'{macro:.1%}' for macro in macros)})"


def pace(result: dict[str, Any]) -> float:
    """Examples a second."""
    return result["examples_per_second"]


def row(seed: int, arm: Arm, result: dict[str, Any]) -> str:
    """One run as a line of the table."""
    score = result["score"]
    two, outputs, (low, high) = score["pass@2"], score["outputs"], score["pass@2"]["macro_interval"]
    return (
        f"| {seed} | {arm} | {two['macro']:.1%} [{low:.1%}, {high:.1%}] | {two['micro'] * outputs:.0f} "
        f"| {score['coverage']['micro'] * outputs:.0f} | {score['pass@1']['macro']:.1%} "
        f"| {result['loss']:.3f} | {result['exact']:.0%} |"
    )


def against(seed: int, pair: Pair, recipe: str) -> str:
    """What the backbone's run solves that the other does not, and the other way."""
    config = find_recipe(recipe)
    tasks = load_tasks(config.source, config.selection.selection())
    ours, theirs = (read_submission(pair[arm]["folder"] / "submission.json") for arm in ("backbone", "scratch"))
    found = compare(ours, theirs, tasks, config.source)
    low, high = found.macro_interval
    return (
        f"Seed {seed}, backbone against scratch: {found.gained} outputs gained, {found.lost} lost, macro "
        f"{100 * found.macro:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], p {found.p_text}."
    )


def main(
    backbone: Annotated[Path, typer.Argument(help="The backbone's folder")],
    recipe: str = "cpu_trm",
    seeds: str = "0,1,2",
    arm: Annotated[str, typer.Option(help="Only runs of this kind: scratch or backbone; no file is written")] = "",
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs")] = Path("runs/bench_backbone"),
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Run what is missing, and compare."""
    numbers, settings = [int(seed) for seed in seeds.split(",")], assignments or []
    chosen: list[Arm] = [each for each in ARMS if arm in ("", each)]
    results: dict[int, Pair] = {
        seed: {each: run_arm(each, backbone, recipe, seed, runs / f"{each}_{seed}", settings) for each in chosen}
        for seed in numbers
    }
    if len(chosen) < len(ARMS):
        return
    words = [str(backbone), f"--recipe {recipe}", f"--seeds {seeds}", *(f"--set {text}" for text in settings)]
    text = describe(recipe, results, backbone, f"python -m benchmarks.bench_backbone {' '.join(words)}")
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
