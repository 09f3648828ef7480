"""An unattended run: solve within a time budget and leave a valid submission, even if stages fail."""

import traceback
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.kaggle.supervisor import RunStopped, Supervisor
from pipeline.runtime.machine import check_processes


def solve_unattended(
    config: RunConfig,
    run_dir: Path,
    out: Path | None = None,
    processes: int | None = None,
    incidents: Sequence[str] = (),
) -> bool:
    """Spend the budget on a submission; return whether a complete and valid one exists at the end.

    Args:
        config: with `budget` and `unattended` set.
        run_dir: the run folder; an existing run of the same config is resumed.
        out: a second file for the submission, besides RUN/submission.json.
        processes: how many share training and prediction; by default one for each GPU.
        incidents: failures from before the run started.

    Raises:
        ConfigError: if there is no budget.
        NoDeviceError: if there are GPUs, and fewer than `processes`.
        SourceError: if the source does not exist.
        UserError: if the folder holds something else.
    """
    if config.unattended is None or config.budget is None:
        raise ConfigError("an unattended run needs a time budget", "set it with --budget, for example 11h50m")
    check_processes(processes or 1)
    supervisor = Supervisor(config, run_dir, out, processes)
    for incident in incidents:
        supervisor.report_incident(incident)
    with supervisor.stop.watched():
        try:
            supervisor.run_stages()
        except RunStopped:
            supervisor.report_incident("the run was asked to end and ends with what it has")
        except Exception as error:  # a valid submission is on disk, and no person is there to start the run again
            supervisor.report_incident(f"unexpected: {type(error).__name__}: {error}")
            supervisor.run.log(traceback.format_exc())
        return supervisor.finish()
