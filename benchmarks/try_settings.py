"""Settings for the `cpu` recipe, tried on tasks that it is not scored on.

    python -m benchmarks.try_settings NAME [--seed N] [--threads N] [--set train.lr=2e-3]...

The development tasks are the 21 ARC-AGI-1 training tasks whose largest side is 6 and the 6 evaluation tasks up to 5x5
(29 test outputs); none of them is among the recipe's own. One line comes out: examples seen, seconds, exact accuracy
in training, the share of single predictions that are right, and outputs solved (pass@2) and covered.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from augment import Selection, SourcedTasks, Task, build_puzzle_set, load_tasks
from pipeline.budget import Budget
from pipeline.config import override, parse_assignments
from pipeline.predict import predict
from pipeline.recipes import recipe
from pipeline.rundir import RunFolder
from pipeline.train import train
from submissions import make_submission, score_submission, vote
from submissions.prediction import Predictions


def development_tasks() -> list[Task]:
    """The 27 tasks, sorted by ID."""
    own = {task.id for task in load_tasks("arc-agi-1/training", Selection(max_side=5))}
    sixes = [task for task in load_tasks("arc-agi-1/training", Selection(max_side=6)) if task.id not in own]
    return sorted(sixes + load_tasks("arc-agi-1/evaluation", Selection(max_side=5)), key=lambda task: task.id)


def share_right(predictions: Predictions, tasks: list[Task]) -> float:
    """The share of single predictions whose grid is the right one."""
    truth = {(task.id, number): pair.output for task in tasks for number, pair in enumerate(task.tests)}
    ballot = vote(predictions, tasks)
    right = sum(
        candidate.count
        for task in tasks
        for number, candidates in enumerate(ballot[task.id])
        for candidate in candidates
        if np.array_equal(candidate.grid, truth[task.id, number])  # type: ignore[arg-type]
    )
    return right / len(predictions.answers)


def main(
    name: str,
    seed: int = 0,
    threads: int = 1,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None,
) -> None:
    """Train and score one setting on the development tasks."""
    torch.set_num_threads(threads)
    config = override(recipe("cpu"), {"seed": seed, "budget": None, **parse_assignments(assignments or [])})
    tasks = development_tasks()
    sources, puzzles = [SourcedTasks("development", "scored", tasks)], config.puzzles
    puzzle_set = build_puzzle_set(sources, puzzles.augmentations, seed, draws=puzzles.draws)
    with tempfile.TemporaryDirectory() as folder:
        run, clock = RunFolder(Path(folder) / "run", config), Budget(None)
        checkpoint = train(config, puzzle_set, run, clock)
        seconds = clock.used()
        predictions = predict(checkpoint, puzzle_set, config.predict, run.predictions, run)
        last = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    ballot = vote(predictions, tasks)
    score = score_submission(make_submission(ballot, tasks), tasks, "development", ballot)
    assert score.coverage is not None
    print(
        f"{name}: seed {seed}, {config.train.steps * config.train.batch_size:,} examples in {seconds:.0f} s, "
        f"exact {last['exact']:.2f}, right {share_right(predictions, tasks):.3f}, "
        f"pass@2 {score.pass_2.micro * score.outputs:.0f} covered {score.coverage.micro * score.outputs:.0f} "
        f"of {score.outputs}; {' '.join(assignments or [])}"
    )


if __name__ == "__main__":
    typer.run(main)
