"""The run folder: names of its files, its config and versions, its log and its metrics.

    config.json versions.json log.txt metrics.jsonl puzzles/ checkpoints/
    predictions/ submission.json score.json report.html

docs/file_formats.md describes each file.
"""

import json
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from augment.errors import UserError
from augment.leftovers import UNFINISHED
from augment.storage import check_writable, write_file, write_json
from augment.text_files import read_json, require_utf_8
from pipeline.config.run_config import ConfigError, PredictSettings, RunConfig, build_config
from pipeline.config.setting_names import differences
from pipeline.runtime.console import Console
from pipeline.runtime.folder_lock import LOCK, lock_folder
from pipeline.runtime.output import ERRORS
from pipeline.runtime.provenance import VERSIONS_FILE, versions
from pipeline.time_budget import Budget, format_duration

METRICS_FILE = "metrics.jsonl"
START_RECORD = "start_checkpoint.json"
"""File with path and SHA-256 of the checkpoint that training started from."""
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
"""Settings that may change when a run is resumed. They do not affect what is learned, and predictions are made again if
their settings have changed."""


class RunFolder(Console):
    """A run folder, opened for one config: created, or resumed if it exists. Log lines go to the screen and log.txt.

    Args:
        path: the folder.
        config: of the run.
        first: whether this is the first process of the run. Only that one reads, writes and prints.
        part: whether the folder is part of another run folder, whose lock protects it.

    Raises:
        UserError: if the folder holds a run with another config, or something that is not a run.
        FolderInUseError: if another process works in the folder; it is locked as long as this object exists.
    """

    def __init__(self, path: Path, config: RunConfig, first: bool = True, part: bool = False):
        super().__init__(quiet=not first)
        self.path = path
        self.first = first
        self.remark = config.remark
        self._last_beat = 0.0
        self._unlock: Callable[[], object] = lambda: None
        if first:
            require_utf_8(self.path)
            check_writable(self.path, "--run-dir")
            self.path.mkdir(parents=True, exist_ok=True)
            config_file = self.path / "config.json"
            if not config_file.exists():
                _refuse_other_content(self.path)
            if not part:
                # Released also at the end of the process.
                self._unlock = weakref.finalize(self, lock_folder(path, super().log))
            try:
                self._open(config_file, config.model_dump(mode="json"))
            except BaseException:
                self.close()
                raise

    puzzles = property(lambda self: self.path / "puzzles")
    checkpoints = property(lambda self: self.path / "checkpoints")
    final_checkpoint = property(lambda self: self.checkpoints / "final")
    predictions = property(lambda self: self.path / "predictions")
    submission = property(lambda self: self.path / "submission.json")
    score = property(lambda self: self.path / "score.json")
    report = property(lambda self: self.path / "report.html")
    start_record = property(lambda self: self.path / START_RECORD)
    beat_file = property(lambda self: self.path / ".alive")

    def close(self) -> None:
        """Release the lock, which is also released when this object is gone."""
        self._unlock()

    def log(self, message: str) -> None:
        """Print a line, and add it to log.txt with the time."""
        super().log(message)
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")

    def warn(self, message: str) -> None:
        """Print a warning about a failure that was handled, and add it to log.txt."""
        if self.first:
            super().warn(message)
        self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} warning: {message}")

    def log_end(self, budget: Budget) -> None:
        """Log how long the run took, where its report is, and the config's remark about its score."""
        self.log(f"done in {format_duration(budget.used())}: {self.report}")
        if self.remark:
            self.log(self.remark)

    def measure(self, **metrics: Any) -> None:
        """Add one JSON line to metrics.jsonl."""
        self._append(METRICS_FILE, json.dumps(metrics))

    def beat(self) -> None:
        """Touch the heartbeat file, at most once a second: its time shows the supervisor that work is in progress."""
        if self.first and time.monotonic() - self._last_beat > 1.0:
            self._last_beat = time.monotonic()
            with suppress(OSError):
                self.beat_file.touch()

    def forget_after(self, step: int) -> None:
        """Remove the metrics of later steps, which will be measured again, and a line that a kill cut short."""
        metrics = self.path / METRICS_FILE
        if self.first and metrics.exists():
            lines = [line for line in read_metrics(self.path) if line["step"] <= step]
            write_file(metrics, "".join(f"{json.dumps(line)}\n" for line in lines))

    def _open(self, config: Path, values: dict[str, Any]) -> None:
        """Create the run, or check that the existing one has this config."""
        if not config.exists():
            write_json(self.path / VERSIONS_FILE, versions())
            write_json(config, values)  # last: a folder without it counts as not yet created
        elif changes := _allowed_changes(config, values):
            write_json(config, values)
            self.log("resuming with changed settings: " + "; ".join(changes))

    def _append(self, name: str, line: str) -> None:
        """Add a line to a file; a full disk loses the line instead of ending the run."""
        if self.first:
            with suppress(OSError), (self.path / name).open("a", encoding="utf-8", errors=ERRORS) as file:
                file.write(f"{line}\n")


def _refuse_other_content(path: Path) -> None:
    """Raise UserError if a folder without config.json has other files than a run killed during its creation."""
    names = [entry.name for entry in path.iterdir() if not entry.name.endswith((LOCK, UNFINISHED))]
    if any(name != VERSIONS_FILE for name in names):
        raise UserError(f"{path} exists and is not a run folder", "name another folder with --run-dir")


def _with_defaults(values: Any) -> Any:
    """Return the values of a config with defaults for settings newer than it; the values as they are if it is none."""
    try:
        return build_config(values).model_dump(mode="json")
    except ConfigError:
        return values


def _allowed_changes(config: Path, values: dict[str, Any]) -> list[str]:
    """Return lines with the changes of settings; UserError if one is not in `MAY_CHANGE`."""
    old = _with_defaults(read_json(config))
    changes = differences(old, values) if isinstance(old, dict) else {"config.json": "it is damaged"}
    lines = [f"{name}: {change}" for name, change in changes.items()]
    if changes.keys() - MAY_CHANGE:
        allowed = ", ".join(sorted(MAY_CHANGE))
        raise UserError(
            f"{config.parent} holds a run with another config",
            f"name another folder with --run-dir, or use the same settings; only these may differ: {allowed}. "
            "Differences:\n  " + "\n  ".join(lines),
        )
    return lines


def has_checkpoint(path: Path) -> bool:
    """Return whether a run has a checkpoint that training wrote."""
    return any((path / "checkpoints").glob("step_*[0-9]"))


def read_start_digest(path: Path) -> str | None:
    """Return the SHA-256 of the checkpoint that a run was started from, None if none is recorded."""
    record = path / START_RECORD
    if not record.exists():
        return None
    value = read_json(record)
    if not isinstance(value, dict) or not isinstance(value.get("sha256"), str):
        raise UserError(f'{record} has no "sha256"', "remove the file if you know that the checkpoint is the same")
    return value["sha256"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl without one that a kill cut short; no lines if there is no file."""
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
