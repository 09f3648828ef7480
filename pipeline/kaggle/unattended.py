"""A run that nobody watches: it keeps to its time and always leaves a valid submission, whatever fails on the way."""

import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.kaggle.supervisor import RunStopped, Supervisor


def solve_unattended(
    config: RunConfig,
    run_dir: Path,
    out: Path | None = None,
    processes: int | None = None,
    incidents: Sequence[str] = (),
) -> bool:
    """Spend the budget on a submission; returns whether a complete and valid one stands at the end.

    Args:
        out: where the submission is written too, besides RUN/submission.json.
        processes: how many share training and prediction; by default one for each GPU.
        incidents: what went wrong before the run began.

    Raises:
        ConfigError: where there is no budget.
        SourceError: where the source does not exist.
        UserError: where the folder holds something else.
    """
    if config.unattended is None or config.budget is None:
        raise ConfigError("an unattended run keeps to a budget", "name it with --budget, for example 11h50m")
    supervisor = Supervisor(config, run_dir, out, processes)
    for incident in incidents:
        supervisor.report_incident(incident)
    with supervisor.stop.watched():
        try:
            supervisor.work()
        except RunStopped:
            supervisor.report_incident("the run was asked to end and ends with what it has")
        except Exception as error:  # a valid submission stands, and nobody is there to start the run again
            supervisor.report_incident(f"unexpected: {type(error).__name__}: {error}")
            supervisor.run.log(traceback.format_exc())
        return supervisor.end()
