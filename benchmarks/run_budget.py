"""What M minutes buy: the whole pipeline on ARC-AGI-1's public evaluation, from files to score, within a time.

    python -m benchmarks.run_budget --minutes 20 --run-dir DIR [--out FILE]                               one GPU
    python -m benchmarks.run_budget --minutes 20 --recipe cpu --max-side 10 --run-dir DIR [--out FILE]    two cores

A short trial measures the pace, then steps and augmentations are planned to fit. Written are the score, what it cost
of the device, and the learning curve. To compare: mdlARC, a transformer of 75M parameters, reaches 44% in 2 hours on
one RTX 5090, training included. TRM, URM and GRAM on one GPU, eight minutes each, with the same seed and data:

    for recipe in arc1_fast arc1_fast_trm arc1_fast_urm arc1_fast_gram; do
        python -m benchmarks.run_budget --minutes 8 --recipe $recipe --run-dir runs/$recipe --out $recipe.md
    done
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from augment import PuzzleSet
from pipeline.config.run_config import RunConfig, SelectionSettings, override, parse_assignments
from pipeline.data.build import gather, make_puzzle_set
from pipeline.prediction.time_estimate import estimate_prediction
from pipeline.recipes.registry import recipe as find_recipe
from pipeline.runtime.distributed import join_process_group
from pipeline.runtime.provenance import processor, versions
from pipeline.runtime.run_folder import RunFolder
from pipeline.solve import solve
from pipeline.time_budget import Budget, format_duration
from pipeline.training.train import train
from submissions.score import Score

SOURCE = "arc-agi-1/evaluation"
PREDICTION_SHARE = 0.25
"""Prediction gets at most this share of the time; what it does not need is trained."""
SPARE_SHARE = 0.03
"""Left over, for what the trial did not see."""
CURVE_LINES = 12


@dataclass(frozen=True)
class PassSchedule:
    """What the time allows: training steps, and augmentations that each test input is answered under."""

    steps: int
    views: int
    seconds_a_step: float
    seconds_a_view: float


def time_training(config: RunConfig, puzzle_set: PuzzleSet, steps: int) -> float:
    """Seconds a step, from a short training with the recipe's own mix of cycles; its first tenth compiles."""
    every = max(1, steps // 10)
    trial = override(config, {"train.steps": steps, "train.log_every": every, "budget": None})
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "trial", trial)
        train(trial, puzzle_set, run, Budget(None))
        lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def make_plan(config: RunConfig, puzzle_set: PuzzleSet, trial_steps: int, budget: Budget) -> PassSchedule:
    """Measure, then share out what is left of the budget."""
    step = time_training(config, puzzle_set, trial_steps)
    most = config.puzzles.augmentations + 1
    estimate = estimate_prediction(config, puzzle_set, join_process_group())
    view = estimate.work / most
    left = budget.left() * (1 - SPARE_SHARE) - estimate.start
    if left <= view:
        raise ValueError(f"the trial alone took the time ({format_duration(budget.used())}); give it more --minutes")
    views = min(most, max(1, int(PREDICTION_SHARE * left / view)))
    return PassSchedule(max(1, int((left - views * view) / step)), views, step, view)


def spend(config: RunConfig, folder: Path, minutes: float, trial_steps: int) -> tuple[PassSchedule, Score, float]:
    """Plan, run and score one model within the minutes; returns the seconds that all of it took too."""
    budget, config = Budget(60 * minutes), override(config, {"ensemble": 1})
    sources = gather([config.source], config.selection.selection(), list(config.train_sources))
    puzzle_set = make_puzzle_set(sources, config.puzzles, config.seed, config.model.board_side)
    plan = make_plan(config, puzzle_set, trial_steps, budget)
    planned = {"train.steps": plan.steps, "predict.augmentations": plan.views - 1, "budget": budget.left()}
    score = solve(override(config, planned), folder)
    assert score is not None
    return plan, score, budget.used()


def describe(plan: PassSchedule, score: Score, seconds: float, folder: Path, minutes: float, command: str) -> str:
    """The result file's text."""
    made, best = versions(), score.pass_2
    low, high = best.macro_interval
    cpu = f"{processor()}, {torch.get_num_threads()} threads of {made['cores']} cores"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    lines = [
        f"# {minutes:g} minutes on {SOURCE}: `{command}`",
        "",
        f"**Macro pass@2 {100 * best.macro:.1f}%** (95% interval {100 * low:.1f} to {100 * high:.1f}) on {score.tasks} "
        f"tasks with {score.outputs} test outputs; micro {100 * best.micro:.1f}%.",
        f"It took {seconds:.0f} seconds of the device ({format_duration(seconds)}), trial and build included: "
        f"{100 * best.macro / (seconds / 60):.2f} points a minute.",
        "",
        f"{plan.steps} steps planned at {plan.seconds_a_step:.3f} s; every test input asked under {plan.views} "
        f"augmentations, at {plan.seconds_a_view:.2f} s for each.",
        "",
        *curve(folder),
        "",
        f"{device}. Commit {made['commit']}, torch {made['torch']}, numpy {made['numpy']}, Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def curve(folder: Path) -> list[str]:
    """The learning curve as a table of a dozen rows."""
    metrics = folder / "metrics.jsonl"
    if not metrics.exists():
        return ["No step was trained."]
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    shown = lines[:: max(1, len(lines) // CURVE_LINES)]
    shown = shown if shown[-1] is lines[-1] else [*shown, lines[-1]]
    columns = [name for name in ("step", "seconds", "loss", "exact", "cells", "held_out_exact") if name in lines[-1]]
    rows = [[line.get(name) for name in columns] for line in shown]
    table = [[f"{value:.3f}" if isinstance(value, float) and name != "seconds" else f"{value:.0f}"
              for name, value in zip(columns, row, strict=True)] for row in rows]  # fmt: skip
    return [f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *table]]


def main(
    minutes: Annotated[float, typer.Option(help="For everything")],
    run: Annotated[Path, typer.Option("--run-dir", help="The run's new folder")],
    recipe: Annotated[str, typer.Option(help="Whose settings")] = "arc1_fast",
    limit: Annotated[int | None, typer.Option(help="Only the first N tasks that are left")] = None,
    max_side: Annotated[int | None, typer.Option(help="Only tasks that fit this side")] = None,
    trial_steps: Annotated[int, typer.Option(help="Steps of the training trial")] = 40,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Plan, run, score; say what it cost."""
    selection = SelectionSettings(limit=limit, max_side=max_side)
    config = find_recipe(recipe).model_copy(update={"source": SOURCE, "selection": selection})
    config = override(config, parse_assignments(assignments or []))
    plan, score, seconds = spend(config, run, minutes, trial_steps)
    options = {"--minutes": f"{minutes:g}", "--recipe": recipe, "--limit": limit, "--max-side": max_side}
    words = [f"{name} {value}" for name, value in options.items() if value]
    words += [f"--set {given}" for given in assignments or []]
    text = describe(plan, score, seconds, run, minutes, f"python -m benchmarks.run_budget {' '.join(words)}")
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
