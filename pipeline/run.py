"""The whole program: from ARC tasks to a scored submission. Each stage is one module; here they are called in order.

In: a config and a folder. Out: the folder, filled (`pipeline.rundir` lists what is in it).
"""

from pathlib import Path

from pipeline.budget import Budget, format_duration
from pipeline.config import RunConfig
from pipeline.launch import find_device
from pipeline.predict import predict, seconds_needed
from pipeline.prepare import describe, describe_exceptions, gather, prepare
from pipeline.rundir import RunFolder
from pipeline.start import start_from
from pipeline.submit import submit
from pipeline.train import is_trained, train
from submissions.format import filler_submission, write_submission
from submissions.score import Score


def solve(config: RunConfig, path: Path) -> Score | None:
    """Run every stage; returns the score where solutions are known. Stages already done are not repeated."""
    budget = Budget(config.budget)
    find_device()  # refuses several processes
    sources = gather([config.source], config.selection.selection(), list(config.train_sources))
    tasks = sources[0].tasks
    start_from(config)
    run = RunFolder(path, config)
    if not run.submission.exists():
        write_submission(run.submission, filler_submission(tasks))
    puzzle_set = prepare(run.puzzles, sources, config.puzzles, config.seed, config.model.board_side)
    run.show(describe(puzzle_set))
    for line in describe_exceptions(puzzle_set):
        run.log(line)
    reserve = 0.0 if config.budget is None or is_trained(config, run) else seconds_needed(config, puzzle_set)
    checkpoint = train(config, puzzle_set, run, budget, reserve)
    predictions = predict(checkpoint, puzzle_set, config.predict, run.predictions, run, recipe=config.recipe)
    score = submit(predictions, tasks, config.predict.ranker, sources[0].source, run)
    run.log(f"done in {format_duration(budget.used())}: {run.report}")
    if config.remark:
        run.log(config.remark)
    return score
