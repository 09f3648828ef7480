"""The whole program: from ARC tasks to a scored submission. Each stage is one module; here they are called in order.

In: a config and a folder. Out: the folder, filled (`pipeline.rundir` lists what is in it).
"""

from pathlib import Path

from augment import load_tasks
from pipeline.budget import Budget, format_duration
from pipeline.config import RunConfig
from pipeline.predict import predict, seconds_needed
from pipeline.prepare import describe, gather, prepare
from pipeline.rundir import RunFolder
from pipeline.submit import submit
from pipeline.train import train
from submissions.format import filler_submission, write_submission
from submissions.score import Score


def solve(config: RunConfig, path: Path) -> Score | None:
    """Run every stage; returns the score where solutions are known. Stages already done are not repeated."""
    budget, chosen = Budget(config.budget), config.selection.selection()
    tasks = load_tasks(config.source, chosen)
    sources = gather([config.source], chosen, list(config.train_sources))
    run = RunFolder(path, config)
    if not run.submission.exists():
        write_submission(run.submission, filler_submission(tasks))
    puzzle_set = prepare(run.puzzles, sources, config.puzzles, config.seed, config.model.board_side)
    run.show(describe(puzzle_set))
    reserve = seconds_needed(config, puzzle_set) if config.budget else 0.0
    checkpoint = train(config, puzzle_set, run, budget, reserve)
    predictions = predict(checkpoint, puzzle_set, config.predict, run.predictions, run, recipe=config.recipe)
    score = submit(predictions, tasks, config.predict.ranker, config.source, run)
    run.log(f"done in {format_duration(budget.used())}: {run.report}")
    return score
