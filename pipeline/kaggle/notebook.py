"""What notebooks/kaggle_submission.ipynb does in more than a line: it is installed by the time that the notebook asks.

In: Kaggle's files and a run's folder. Out: a submission from the first second, commands whose output is seen as it
comes, and what is worth keeping and seeing of a run. Never torch: the GPUs belong to the stages.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from augment.sources.lenient import load_readable_tasks
from augment.storage import read_json
from pipeline.kaggle.bundle import PACKAGE
from pipeline.runtime.launcher import count_gpus
from pipeline.runtime.provenance import COMMIT_FILE
from pipeline.scoring.score import find_scorable
from submissions.report.notebook_view import excerpt
from submissions.report.views import view_task
from submissions.submission_file import placeholder_for, read_submission, write_submission

KEPT = ("log.txt", "metrics.jsonl", "config.json", "versions.json", "incidents.json", "score.json", "report.html")
PRETENDS_TERMINAL = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
"""Set by a notebook's kernel; a command that believes it redraws its progress bar for twelve hours."""


def describe_installation() -> str:
    """Versions, GPUs, and where a package is missing or older than it should be, a warning that names it."""
    commit = Path(__file__).parents[1] / COMMIT_FILE
    found = f"{PACKAGE} {version(PACKAGE)}, commit {commit.read_text().strip()}" if commit.exists() else "a checkout"
    python = ".".join(map(str, sys.version_info[:3]))
    lines = [f"{found}; Python {python}, {os.cpu_count()} cores, {count_gpus()} GPUs"]
    return "\n".join([*lines, *(f"WARNING: {line}" for line in find_unmet())])


def find_unmet() -> list[str]:
    """Every package that is missing or older than asked for (NAME>=VERSION, as pyproject.toml has them), in words."""
    try:
        needed = requires(PACKAGE) or []
    except PackageNotFoundError:  # a checkout, which its own requirements.txt is for
        return []
    lines = []
    for text in needed:
        name, _, least = text.partition(">=")
        try:
            if _numbers(version(name)) < _numbers(least):
                lines.append(f"{text} is needed, and {version(name)} is installed")
        except PackageNotFoundError:
            lines.append(f"{text} is needed, and it is not installed")
    return lines


def _numbers(release: str) -> list[int]:
    """2.10.0 as [2, 10, 0]."""
    return [int(number) for number in re.findall(r"\d+", release)]


def write_placeholder(challenges: Path, file: Path) -> None:
    """Write a complete valid submission that answers nothing, tasks that cannot be read included."""
    write_submission(file, placeholder_for(*load_readable_tasks(challenges)))


def run_command(*words: object) -> int:
    """Run `python -m pipeline WORDS` and print all that it says, line by line as it comes; returns its exit code."""
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name not in PRETENDS_TERMINAL}
    environment["PYTHONUNBUFFERED"] = "1"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
    return process.returncode


def keep(run: Path, folder: Path) -> None:
    """Copy what is worth keeping of a run, as far as it is there and there is room for it, to another folder."""
    for name in KEPT:
        with suppress(OSError):  # a notebook that fails loses its submission
            shutil.copyfile(run / name, folder / name)


def describe_run(run: Path) -> str:
    """The score, where it is known, and the incidents."""
    lines = []
    if (run / "score.json").exists():
        score = read_json(run / "score.json")
        counted = f"{score['tasks']} tasks, {score['outputs']} test outputs"
        lines.append(f"{score['source']}: {counted}, macro pass@2 {score['pass@2']['macro']:.1%}")
    else:
        lines.append("no score: the solutions are not known, or the run ended early")
    incidents = read_json(run / "incidents.json") if (run / "incidents.json").exists() else []
    return "\n".join([*lines, *(f"incident: {line}" for line in incidents or ["none"])])


def pictures(run: Path, most: int = 4) -> str:
    """Some tasks of a run as HTML, solved ones first: demonstrations, attempts, candidates and the recursion."""
    answer = find_scorable(run)
    source = answer.only_source()
    tasks, _ = load_readable_tasks(source, answer.asked[source])
    ballot = answer.ballot(tasks) or {}
    submission = read_submission(run / "submission.json")
    recursions = answer.answers.recursions if answer.answers else None
    views = [view_task(task, submission, ballot, recursions) for task in tasks]
    views.sort(key=lambda view: view.outcome not in ("solved", "partly"))
    return "\n".join(excerpt(view) for view in views[:most])
