"""The whole program: from ARC tasks to a scored submission. Each stage is one module; here they are called in order.

In: a config and a folder. Out: the folder, filled (`pipeline.runtime.run_folder` lists what is in it).
"""

from pathlib import Path

from augment import PuzzleSet, SourcedTasks, open_puzzle_set
from pipeline.config.run_config import RunConfig
from pipeline.data.build import gather, prepare
from pipeline.data.summary import describe, describe_exceptions
from pipeline.ensemble import train_and_predict
from pipeline.prediction.test_time_training import estimate_test_time_training
from pipeline.prediction.time_estimate import estimate_seconds
from pipeline.runtime.distributed import LaunchedProcesses, join_process_group
from pipeline.runtime.launcher import is_first
from pipeline.runtime.run_folder import RunFolder
from pipeline.scoring.submit import submit
from pipeline.scoring.unreachable_colours import describe_unreachable
from pipeline.time_budget import Budget, format_duration
from pipeline.training.setup import start_from
from pipeline.training.trainer import is_trained
from submissions.rankers import find_ranker
from submissions.score import Score
from submissions.submission_file import placeholder_submission, write_submission


def solve(config: RunConfig, path: Path) -> Score | None:
    """Run every stage; returns the score where solutions are known. Stages already done are not repeated.

    Of several processes (`torchrun`, `accelerate launch`) all train and predict; the first builds, votes, writes, and
    has the score to return.
    """
    budget = Budget(config.budget)
    processes = join_process_group()
    sources = find_sources(config)
    run = RunFolder(path, config, first=is_first())
    puzzle_set = _prepare(config, sources, run, processes)
    reserve = 0.0
    is_ready = config.ensemble == 1 and is_trained(config, run)  # of several the first may be trained and others not
    if config.budget is not None and not is_ready:
        reserve = estimate_seconds(config, puzzle_set, processes) + estimate_test_time_training(
            config, puzzle_set, processes
        )
    predictions = train_and_predict(config, puzzle_set, run, budget, reserve)
    if processes.index:
        return None
    score = submit(predictions, sources[0].tasks, config.predict.ranker, sources[0].source, run)
    if unreachable := describe_unreachable(config, sources[0].tasks):
        run.log(unreachable)
    run.log(f"done in {format_duration(budget.used())}: {run.report}")
    if config.remark:
        run.log(config.remark)
    return score


def find_sources(config: RunConfig) -> list[SourcedTasks]:
    """The tasks of the config's sources, the scored one first.

    Raises:
        ValueError: for what `solve` refuses before it writes anything: tasks, a ranker or a checkpoint.
    """
    sources = gather([config.source], config.selection.selection(), list(config.train_sources))
    find_ranker(config.predict.ranker)
    start_from(config)
    return sources


def _prepare(config: RunConfig, sources: list[SourcedTasks], run: RunFolder, processes: LaunchedProcesses) -> PuzzleSet:
    """A valid submission and the puzzle set, which the first process writes and the others read."""
    if processes.index == 0:
        if not run.submission.exists():
            write_submission(run.submission, placeholder_submission(sources[0].tasks))
        prepare(run.puzzles, sources, config.puzzles, config.seed, config.model.board_side)
    processes.wait_until(run.puzzles.exists)
    puzzle_set = open_puzzle_set(run.puzzles)
    run.show(describe(puzzle_set))
    for line in describe_exceptions(puzzle_set):
        run.log(line)
    return puzzle_set
