"""Does a run that is killed again and again end up, bit for bit, where one that was left alone does?

    python -m benchmarks.bench_kills [--kills 20] [--seed 0] [--out FILE]

A small real training is run once in peace, with all its checkpoints kept, and once more being killed (SIGKILL) at
random moments and started again with the same command until it is done. After every kill the newest checkpoint, and in
the end the final one and the metrics, must be those of the first run. On the CPU, with one thread. Exit code 1 if
anything differs.
"""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from augment import Selection, write_puzzle_set
from pipeline.config.run_config import PuzzleSettings
from pipeline.data.build import gather, make_puzzle_set
from pipeline.runtime.provenance import processor, versions

ROOT = Path(__file__).resolve().parents[1]
STEPS, CHECKPOINT_EVERY, LOG_EVERY = 400, 10, 3
SETTINGS = {
    "model.max_steps": 4,
    "model.exploration": 0.5,
    "train.feed": "halted",
    "train.checkpoint_every": CHECKPOINT_EVERY,
    "train.log_every": LOG_EVERY,
}
KEEP_ALL = (
    "from functools import partial; import pipeline.training.trainer as stage; from pipeline.__main__ import main; "
    "stage.CheckpointManager = partial(stage.CheckpointManager, keep=10**9); main()"
)
"""The same program as `python -m pipeline`, but it keeps every checkpoint."""

UNFINISHED = ".step_*[0-9].unfinished"
CLOCKS = ("seconds", "examples_per_second")
LONG = 300.0
"""Seconds after which a moment that has not come is no longer waited for."""

Kind = Literal["start", "training", "write"]


@dataclass(frozen=True)
class Moment:
    """When to kill: some seconds after the start, after `step`, or after the next write of a checkpoint has begun."""

    kind: Kind
    step: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """One kill, or the end of the run (`kind` is "end").

    began: the step that this start went on from; logged: the last step in metrics.jsonl; newest: the newest
    checkpoint's step; each None where there was none. inside: an unfinished checkpoint was left behind. differs: what
    is not as in the run left alone.
    """

    kind: str
    began: int | None
    logged: int | None
    newest: int | None
    inside: bool
    differs: tuple[str, ...]


def run_and_kill(folder: Path, kills: int, seed: int, steps: int = STEPS) -> list[Outcome]:
    """Train once in peace and once with `kills` kills, in a new folder: an outcome for each kill, and one for the end.

    Raises:
        ValueError: where the folder exists.
        RuntimeError: where training fails, or is done before the last kill.
    """
    folder = folder.resolve()
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it or name another folder")
    write_puzzles(folder / "puzzles")
    alone, killed = Run(folder / "alone", steps, ["-c", KEEP_ALL]), Run(folder / "killed", steps, ["-m", "pipeline"])
    begin = time.monotonic()
    alone.start().wait_for(LOG_EVERY)
    starting = time.monotonic() - begin
    alone.finish()
    outcomes = []
    for moment in draw_moments(kills, steps, seed, starting):
        before = killed.newest()
        killed.start().kill(moment)
        outcomes.append(judge(killed, alone, moment.kind, before))
    before = killed.newest()
    killed.start().finish()
    return [*outcomes, judge(killed, alone, "end", before)]


def write_puzzles(folder: Path) -> None:
    """Four small ARC tasks under four augmentations."""
    sources = gather(["arc-agi-1/training"], Selection(max_side=3, limit=4), [])
    write_puzzle_set(make_puzzle_set(sources, PuzzleSettings(augmentations=3), seed=0), folder)


def draw_moments(kills: int, steps: int, seed: int, starting: float) -> list[Moment]:
    """Random moments in the order of their steps, two of five in training, two in a write and one while starting.

    The first is drawn from the steps before any checkpoint. starting: seconds from a start to the first metrics.
    """
    rng = random.Random(seed)
    five: tuple[Kind, ...] = ("training", "write", "training", "write", "start")
    kinds: list[Kind] = [five[number % 5] for number in range(kills)]
    rng.shuffle(kinds)
    reached = sorted([rng.randrange(1, CHECKPOINT_EVERY), *rng.sample(range(1, int(0.8 * steps)), kills - 1)])
    most: dict[Kind, float] = {"start": starting, "training": 0.1, "write": 0.01}
    return [Moment(kind, step, rng.uniform(0, most[kind])) for kind, step in zip(kinds, reached, strict=True)]


class Run:
    """A run folder and the command that fills it, started as often as needed."""

    def __init__(self, path: Path, steps: int, program: list[str]):
        self.path, self.checkpoints, self.metrics = path, path / "checkpoints", path / "metrics.jsonl"
        settings = [f"--set={name}={value}" for name, value in (SETTINGS | {"train.steps": steps}).items()]
        words = [
            "train",
            "--recipe",
            "smoke",
            "--puzzles",
            str(path.parent / "puzzles"),
            "--run-dir",
            str(path),
            *settings,
        ]
        self.command = [sys.executable, *program, *words]
        self.process: subprocess.Popen[bytes] | None = None
        self._said, self._stamp = 0, (0, 0)
        self._left: set[tuple[str, int]] = set()

    def start(self) -> "Run":
        """Start the command, on the CPU with one thread; what it says is kept beside the folder."""
        self._said, self._stamp, self._left = len(self._log()), self._look(), self._unfinished()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with self.path.with_suffix(".txt").open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        return self

    def finish(self) -> None:
        """Wait until it is done; RuntimeError where it fails."""
        assert self.process is not None
        if self.process.wait() != 0:
            raise RuntimeError(f"training failed: {self.path.with_suffix('.txt').read_text()[-2000:]}")

    def kill(self, moment: Moment) -> None:
        """Kill it at a moment; RuntimeError where it ended by itself before."""
        assert self.process is not None
        try:
            if moment.kind != "start":
                self.wait_for(moment.step)
            if moment.kind == "write":
                self._wait(self.is_writing)
            time.sleep(moment.seconds)
        finally:
            self.process.kill()
            ended = self.process.wait()
        if ended != -signal.SIGKILL:
            said = self.path.with_suffix(".txt").read_text()[-2000:]
            raise RuntimeError(f"training ended by itself (exit code {ended}) before {moment}: {said}")

    def wait_for(self, step: int) -> None:
        """Until this start has logged a step, this one or a later one, or has ended."""
        self._wait(lambda: self._look() != self._stamp and (self.logged() or 0) >= step)

    def _wait(self, come: Callable[[], bool]) -> None:
        assert self.process is not None
        end = time.monotonic() + LONG
        while not come() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.0005)

    def is_writing(self) -> bool:
        """Whether the last start has begun a checkpoint and not finished it."""
        return not self._unfinished() <= self._left

    def newest(self) -> int | None:
        """The step of the newest checkpoint that has its final name."""
        return max((int(path.name.removeprefix("step_")) for path in self.checkpoints.glob("step_*")), default=None)

    def began(self) -> int | None:
        """The step that the last start went on from, where it came so far."""
        said = self._log()[self._said :].partition("resumed at step ")[2].split()
        return int(said[0]) if said else None

    def logged(self) -> int | None:
        """The last step in metrics.jsonl."""
        lines = self.read_metrics()
        return lines[-1]["step"] if lines else None

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl without times; the last one may have been cut short."""
        text = self.metrics.read_text() if self.metrics.exists() else ""
        return [without_clocks(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def _unfinished(self) -> set[tuple[str, int]]:
        """The unfinished checkpoints and when each changed."""
        found = set()
        for path in self.checkpoints.glob(UNFINISHED):
            with suppress(FileNotFoundError):  # it was finished just now
                found.add((path.name, path.stat().st_mtime_ns))
        return found

    def _log(self) -> str:
        log = self.path / "log.txt"
        return log.read_text() if log.exists() else ""

    def _look(self) -> tuple[int, int]:
        """Changes whenever metrics.jsonl does."""
        if not self.metrics.exists():
            return 0, 0
        seen = self.metrics.stat()
        return seen.st_mtime_ns, seen.st_size


def judge(killed: Run, alone: Run, kind: str, before: int | None) -> Outcome:
    """Compare a run with the one left alone; `before`: its newest checkpoint before the last start."""
    began, newest, differs = killed.began(), killed.newest(), []
    if began is not None and began != before:
        differs.append(f"began at {began} and not at {before}")
    if newest is not None:
        differs += compare(*(run.checkpoints / f"step_{newest:07d}" for run in (killed, alone)))
    if kind == "end":
        differs += compare(killed.checkpoints / "final", alone.checkpoints / "final")
        differs += ["metrics.jsonl"] if killed.read_metrics() != alone.read_metrics() else []
    return Outcome(kind, began, killed.logged(), newest, killed.is_writing(), tuple(differs))


def compare(ours: Path, theirs: Path) -> list[str]:
    """The files of a checkpoint that are not the same bit for bit, but for the times in checkpoint.json."""
    names = sorted({path.name for folder in (ours, theirs) if folder.exists() for path in folder.iterdir()})
    found = [name for name in names or [""] if _read(ours / name) != _read(theirs / name) or _read(ours / name) is None]
    return [f"{ours.name}/{name}" for name in found]


def _read(file: Path) -> Any:
    """A file's content, of checkpoint.json without times; None where there is none."""
    if not file.is_file():
        return None
    return without_clocks(json.loads(file.read_text())) if file.name == "checkpoint.json" else file.read_bytes()


def without_clocks(value: Any) -> Any:
    """A JSON value without what depends on time, and without the checksum over it."""
    if not isinstance(value, dict):
        return value
    return {name: without_clocks(inner) for name, inner in value.items() if name not in (*CLOCKS, "sha256")}


def describe(outcomes: list[Outcome], command: str) -> str:
    """The result file's text."""
    *kills, end = outcomes
    same, made = sum(not kill.differs for kill in kills), versions()
    lines = [
        f"# A run that is killed: `{command}`",
        "",
        f"**{same} of {len(kills)} identical**, bit for bit: the newest checkpoint after each kill (SIGKILL) with that "
        f"of a run left alone. {sum(kill.inside for kill in kills)} fell inside the write of a checkpoint, "
        f"{sum(kill.newest is None for kill in kills)} before there was one to compare. In the end final weights, "
        "average, ID table, optimizer state, slots, random state and metrics were "
        f"{'DIFFERENT' if end.differs else 'identical'}.",
        "",
        "| kill | aimed at | resumed at step | last logged step | inside a write | newest checkpoint | differs |",
        "|---|---|---|---|---|---|---|",
        *(describe_outcome(number, outcome) for number, outcome in enumerate(outcomes, 1)),
        "",
        f"A checkpoint every {CHECKPOINT_EVERY} steps, a line of metrics every {LOG_EVERY}. One thread, CPU: "
        f"{processor()}. Commit {made['commit']}, torch {made['torch']}, Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def describe_outcome(number: int, outcome: Outcome) -> str:
    """A line of the table."""
    steps = ["" if step is None else str(step) for step in (outcome.began, outcome.logged, outcome.newest)]
    inside, differs = "yes" if outcome.inside else "", ", ".join(outcome.differs) or "nothing"
    name = "" if outcome.kind == "end" else str(number)
    return f"| {name} | {outcome.kind} | {steps[0]} | {steps[1]} | {inside} | {steps[2]} | {differs} |"


def main(
    kills: Annotated[int, typer.Option(min=1)] = 20,
    seed: int = 0,
    steps: Annotated[int, typer.Option(help="Training steps of the run")] = STEPS,
    folder: Annotated[Path, typer.Option("--runs", help="A new folder for the two runs")] = Path("runs/kills"),
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Kill a training run at random moments and compare it with one left alone."""
    outcomes = run_and_kill(folder, kills, seed, steps)
    text = describe(outcomes, f"python -m benchmarks.bench_kills {shlex.join(sys.argv[1:])}".strip())
    print(text)
    if out:
        out.write_text(text)
    if any(outcome.differs for outcome in outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
