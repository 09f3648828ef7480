"""Functions of notebooks/kaggle_submission.ipynb that take more than a line; the notebook installs this package first.

They check the installation, write a placeholder submission, run commands with live output, and copy and show the
results of a run. torch is never imported, so that the GPUs stay free for the stages' own processes.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from augment.errors import DamagedError
from augment.schema import read_fields
from augment.sources.lenient import load_readable_tasks
from augment.text_files import read_json
from pipeline.kaggle.bundle import PACKAGE
from pipeline.kaggle.child_process import OUTPUT
from pipeline.runtime.launcher import count_gpus
from pipeline.runtime.provenance import COMMIT_FILE
from pipeline.scoring.score import find_scorable
from submissions.report.notebook_view import excerpt
from submissions.report.views import view_task
from submissions.score_schema import ScoreFile
from submissions.submission_file import placeholder_for, read_submission, write_submission

KEPT = ("log.txt", "metrics.jsonl", "config.json", "versions.json", "incidents.json", "score.json", "report.html")
PRETENDS_TERMINAL = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
"""Variables that a notebook's kernel sets. With them a command would redraw its progress bar for twelve hours."""


def describe_installation() -> str:
    """Return versions, cores and GPUs, and a warning for each package that is missing or too old."""
    commit = Path(__file__).parents[1] / COMMIT_FILE
    package = f"{PACKAGE} {version(PACKAGE)}, commit {commit.read_text().strip()}" if commit.exists() else "a checkout"
    python = ".".join(map(str, sys.version_info[:3]))
    lines = [f"{package}; Python {python}, {os.cpu_count()} cores, {count_gpus()} GPUs"]
    return "\n".join([*lines, *(f"WARNING: {line}" for line in find_unmet())])


def find_unmet() -> list[str]:
    """Return a line for each package that is missing or older than pyproject.toml requires (NAME>=VERSION)."""
    try:
        requirements = requires(PACKAGE) or []
    except PackageNotFoundError:  # a checkout is not installed; its requirements.txt covers this
        return []
    lines = []
    for requirement in requirements:
        name, _, least = requirement.partition(">=")
        try:
            if _numbers(version(name)) < _numbers(least):
                lines.append(f"{requirement} is needed, and {version(name)} is installed")
        except PackageNotFoundError:
            lines.append(f"{requirement} is needed, and it is not installed")
    return lines


def _numbers(release: str) -> list[int]:
    """Return the numbers of a release: [2, 10, 0] for 2.10.0."""
    return [int(number) for number in re.findall(r"\d+", release)]


def write_placeholder(challenges: Path, file: Path) -> None:
    """Write a complete and valid submission of placeholders for all tasks, including those that cannot be read."""
    write_submission(file, placeholder_for(*load_readable_tasks(challenges)))


def run_command(*words: object) -> int:
    """Run `python -m pipeline WORDS`, print its output line by line as it comes, and return its exit code."""
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name not in PRETENDS_TERMINAL}
    environment |= OUTPUT
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
    return process.returncode


def keep(run: Path, folder: Path) -> None:
    """Copy the files of a run that a user wants to keep to another folder; those that cannot be copied are skipped."""
    for name in KEPT:
        with suppress(OSError):  # a notebook that ends with an error loses its submission
            shutil.copyfile(run / name, folder / name)


def _describe_score(file: Path) -> str:
    try:
        score = read_fields(ScoreFile, file, "run solve again")
        counts = f"{score.tasks} tasks, {score.outputs} test outputs"
        return f"{score.source}: {counts}, macro pass@2 {score.pass_2.macro:.1%}"
    except DamagedError:
        return f"no score: {file} is damaged"


def describe_run(run: Path) -> str:
    """Return the score, if it is known, and the incidents of a run, as text."""
    lines = []
    if (run / "score.json").exists():
        lines.append(_describe_score(run / "score.json"))
    else:
        lines.append("no score: the solutions are not known, or the run ended early")
    incidents = read_json(run / "incidents.json") if (run / "incidents.json").exists() else []
    return "\n".join([*lines, *(f"incident: {line}" for line in incidents or ["none"])])


def pictures(run: Path, most: int = 4) -> str:
    """Return `most` tasks of a run as HTML, solved ones first: demonstrations, attempts, candidates and recursion."""
    result = find_scorable(run)
    source = result.only_source()
    tasks, _ = load_readable_tasks(source, result.asked[source])
    ballot = result.ballot(tasks) or {}
    submission = read_submission(run / "submission.json")
    recursions = result.answers.recursions if result.answers else None
    pages = [view_task(task, submission, ballot, recursions) for task in tasks]
    pages.sort(key=lambda page: page.outcome not in ("solved", "partly"))
    return "\n".join(excerpt(page) for page in pages[:most])
