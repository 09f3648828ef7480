"""Log lines that describe how a run will spend its remaining time, from the measured pace of training."""

from pathlib import Path

from pipeline.kaggle.schedule import PassSchedule
from pipeline.runtime.run_folder import RunFolder, read_metrics

LEAST_SECONDS_BETWEEN = 5.0
LINES_IN_BUDGET = 20
"""How often the schedule is logged over the whole budget; ten times as often until the pace is known."""


def measure_pace(run_dir: Path) -> tuple[int, float | None]:
    """Return the steps so far and the seconds per step, by the last four lines of metrics.jsonl.

    The pace is None if there are too few lines.
    """
    lines = read_metrics(run_dir)[-4:]
    steps = lines[-1]["step"] if lines else 0
    if len(lines) < 2 or steps <= lines[0]["step"]:
        return steps, None
    return steps, (lines[-1]["seconds"] - lines[0]["seconds"]) / (steps - lines[0]["step"])


class ScheduleLog:
    """Log the schedule whenever it has changed."""

    def __init__(self, run: RunFolder):
        self.run = run
        self._logged_at = 0.0
        self._knows_pace = False
        self._last_line = ""

    def is_due(self, schedule: PassSchedule, now: float) -> bool:
        """Return whether enough time has passed since the last line."""
        interval = schedule.budget / (LINES_IN_BUDGET if self._knows_pace else 10 * LINES_IN_BUDGET)
        return now - self._logged_at > max(LEAST_SECONDS_BETWEEN, interval)

    def write(self, schedule: PassSchedule, now: float, steps: int, pace: float | None) -> None:
        """Log the schedule if it has changed, with the steps so far and the seconds per step."""
        self._logged_at = now
        self._knows_pace = pace is not None
        line = schedule.describe(now, steps, pace)
        if line != self._last_line:
            self.run.log(f"plan: {line}")
        self._last_line = line
