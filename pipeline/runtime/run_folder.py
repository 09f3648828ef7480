"""A run's folder: what it is (config, versions, commit) and what it said (log, metrics), all plain files.

config.json versions.json log.txt metrics.jsonl puzzles/ checkpoints/
    predictions/ submission.json score.json report.html
"""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console as Screen

from augment.errors import UserError
from augment.storage import read_json, write_file, write_json
from pipeline.config.run_config import ConfigError, PredictSettings, RunConfig, build_config
from pipeline.config.setting_names import differences
from pipeline.runtime.console import Console
from pipeline.runtime.provenance import versions
from pipeline.time_budget import Budget, format_duration

METRICS_FILE = "metrics.jsonl"
MAY_CHANGE = {
    *(
        "budget",
        "remark",
        "ensemble",
        "train.log_every",
        "train.checkpoint_every",
        "train.trackers",
        "train.micro_batch",
    ),
    "puzzles.workers",
    *(f"predict.{name}" for name in PredictSettings.model_fields),
}
"""Settings that a run may go on with when they are changed: they do not decide what is learnt, and predictions are made
again where theirs have changed."""


class RunFolder(Console):
    """A run's folder, opened for one config. Its log lines go to the screen and to log.txt.

    Of several processes that share a run only the first reads and writes here; the folders of the others are silent.

    Raises:
        ValueError: where the folder holds a run with another config, or something that is not a run.
    """

    def __init__(self, path: Path, config: RunConfig, first: bool = True):
        super().__init__()
        self.path = path
        self.first = first
        self.remark = config.remark
        self._beaten = 0.0
        if first:
            self._open(config.model_dump(mode="json"))
        else:
            self.screen = Screen(quiet=True)

    puzzles = property(lambda self: self.path / "puzzles")
    checkpoints = property(lambda self: self.path / "checkpoints")
    final_checkpoint = property(lambda self: self.checkpoints / "final")
    predictions = property(lambda self: self.path / "predictions")
    submission = property(lambda self: self.path / "submission.json")
    score = property(lambda self: self.path / "score.json")
    report = property(lambda self: self.path / "report.html")
    beat_file = property(lambda self: self.path / ".alive")

    def log(self, message: str) -> None:
        """Print a line and keep it, with the time, in log.txt."""
        super().log(message)
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")

    def warn(self, message: str) -> None:
        """Print that something went wrong and was dealt with, and keep it in log.txt."""
        if self.first:
            super().warn(message)
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} warning: {message}")

    def log_end(self, budget: Budget) -> None:
        """Log how long the run took, where its report is, and what a reader of its score must know."""
        self.log(f"done in {format_duration(budget.used())}: {self.report}")
        if self.remark:
            self.log(self.remark)

    def measure(self, **metrics: Any) -> None:
        """Add one JSON line to metrics.jsonl."""
        self._append(METRICS_FILE, json.dumps(metrics))

    def beat(self) -> None:
        """Touch a file, once a second at most, by which others see that work goes on."""
        if self.first and time.monotonic() - self._beaten > 1.0:
            self._beaten = time.monotonic()
            with suppress(OSError):
                self.beat_file.touch()

    def forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl of later steps, which will be made again, and one that a kill cut short."""
        metrics = self.path / METRICS_FILE
        if self.first and metrics.exists():
            kept = [line for line in read_metrics(self.path) if line["step"] <= step]
            write_file(metrics, "".join(f"{json.dumps(line)}\n" for line in kept))

    def _open(self, values: dict[str, Any]) -> None:
        """Begin a run, or go on with the one that is there."""
        self.path.mkdir(parents=True, exist_ok=True)
        config = self.path / "config.json"
        if not config.exists():
            _refuse_other_content(self.path)
            write_json(self.path / "versions.json", versions())
            write_json(config, values)
        elif changed := _allowed_changes(config, values):
            write_json(config, values)
            self.log("going on with changed settings: " + "; ".join(changed))

    def _append(self, name: str, line: str) -> None:
        """Add a line; a full disk loses it, which is no reason to end a run."""
        if self.first:
            with suppress(OSError), (self.path / name).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")


def _refuse_other_content(path: Path) -> None:
    """ValueError where a folder without config.json holds more than a run that was killed while it began."""
    if any(entry.name != "versions.json" and entry.suffix != ".unfinished" for entry in path.iterdir()):
        raise UserError(f"{path}: exists and is not a run folder", "name another with --run-dir")


def _with_defaults(values: Any) -> Any:
    """A config as plain values, settings that are newer than it at their defaults; as it is where it is none."""
    try:
        return build_config(values).model_dump(mode="json")
    except ConfigError:
        return values


def _allowed_changes(config: Path, values: dict[str, Any]) -> list[str]:
    """What differs from the config of the run so far; ValueError where it is more than what may change."""
    old = _with_defaults(read_json(config))
    changed = differences(old, values) if isinstance(old, dict) else {"config.json": "it is damaged"}
    lines = [f"{name}: {change}" for name, change in changed.items()]
    if changed.keys() - MAY_CHANGE:
        raise UserError(
            f"{config.parent}: holds a run with another config; name another folder with --run, or set alike all but "
            f"{', '.join(sorted(MAY_CHANGE))}.\n  " + "\n  ".join(lines)
        )
    return lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, but for one that a kill cut short; none where there is no such file."""
    metrics = path / METRICS_FILE
    lines = []
    for text in metrics.read_text(encoding="utf-8", errors="replace").splitlines() if metrics.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
