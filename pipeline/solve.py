"""Run the whole pipeline, one call per stage: from ARC tasks to a scored submission. README.md shows the same lines."""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.data.build import build, load_sources
from pipeline.ensemble import each_model, pool_predictions
from pipeline.prediction.stage import run_prediction
from pipeline.prediction.time_estimate import seconds_to_reserve
from pipeline.runtime.launcher import is_first
from pipeline.runtime.run_folder import RunFolder
from pipeline.scoring.submit import open_submission, score_run, submit
from pipeline.time_budget import Budget
from pipeline.training.setup import check_start
from pipeline.training.size_limits import check_sizes
from pipeline.training.train import train
from submissions.rankers import find_ranker
from submissions.score import Score
from submissions.vote import vote


def solve(config: RunConfig, run_dir: Path) -> Score | None:
    """Run every stage; stages that an earlier call completed are not repeated.

    Of several processes (torchrun, accelerate launch) all train and predict. The first one alone builds, votes and
    writes.

    Args:
        config: of the run.
        run_dir: the run folder, which is created or resumed.

    Returns:
        The score, in the first process, if the solutions are known; else None.

    Raises:
        UserError: if the config, the source or the folder is refused.
    """
    budget = Budget(config.budget)
    check_sizes(config)
    check_start(config, run_dir)
    find_ranker(config.predict.ranker)  # refuse a ranker that cannot be run before any work is done
    sources = load_sources(config)
    run = RunFolder(run_dir, config, first=is_first())
    open_submission(sources[0].tasks, run)
    puzzle_set = build(config, sources, run)
    for member in each_model(config, run, budget, seconds_to_reserve(config, puzzle_set, run)):
        checkpoint = train(member.config, puzzle_set, member.run, budget, member.reserve)
        run_prediction(config, checkpoint, puzzle_set, member.predictions, member.run)
    predictions = pool_predictions(config, run)
    if not is_first():
        return None
    ballot = vote(predictions, sources[0].tasks, config.predict.ranker)
    submission = submit(ballot, sources[0].tasks, run)
    score = score_run(config, sources[0].tasks, predictions, ballot, submission, run)
    run.log_end(budget)
    return score
