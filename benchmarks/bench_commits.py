"""Compare the speed of two commits: puzzle sets, votes, training and prediction.

    python -m benchmarks.bench_commits OLD [--new HEAD] [--rounds 100] [--out FILE]

Each commit is checked out into a folder of its own and works in a process of its own, with one thread for OpenMP and
numba. In every round each operation is done once by both, one right after the other, in alternating order; the ratio of
the two is free of whatever slows the machine for longer than that. Reported is the median ratio with its 95% bootstrap
interval.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from pipeline.runtime.provenance import processor, versions

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("commit_worker.py")
RESAMPLES = 10_000


class Checkout:
    """A commit in a folder of its own, and the process that times its operations."""

    def __init__(self, commit: str, folder: Path):
        self.commit = git("rev-parse", commit)
        self.folder = folder
        git("worktree", "add", "--detach", "--quiet", str(folder), self.commit)
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def wait_until_ready(self) -> list[str]:
        """Return the names of the operations once the process has prepared them."""
        return [name.replace("_", " ") for name in self._read_line().split()]

    def time(self, operation: str) -> float:
        """Return the seconds that one operation takes."""
        assert self._process.stdin is not None
        print(operation.replace(" ", "_"), file=self._process.stdin, flush=True)
        return float(self._read_line())

    def close(self) -> None:
        """End the process and remove the folder."""
        self._process.communicate()
        git("worktree", "remove", "--force", str(self.folder))

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.commit} has ended; see its output above")
        return line


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def open_checkouts(old: str, new: str) -> Iterator[tuple[Checkout, Checkout]]:
    """Check out both commits, start their processes, and remove everything at the end."""
    with tempfile.TemporaryDirectory() as folder:
        opened: list[Checkout] = []
        try:
            for name, commit in (("old", old), ("new", new)):
                opened.append(Checkout(commit, Path(folder) / name))
            yield opened[0], opened[1]
        finally:
            for checkout in opened:
                checkout.close()


def time_in_turn(old: Checkout, new: Checkout, rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds (rounds, 2) of each operation, of the old and the new commit."""
    names = old.wait_until_ready()
    if new.wait_until_ready() != names:
        raise RuntimeError("the two commits have different operations")
    seconds: dict[str, list[list[float]]] = defaultdict(list)
    for number in range(rounds):
        for name in names:
            pair = {checkout: checkout.time(name) for checkout in ((old, new) if number % 2 else (new, old))}
            seconds[name].append([pair[old], pair[new]])
    return {name: np.array(rows) for name, rows in seconds.items()}


def bootstrap_interval(ratios: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the median of ratios (rounds,)."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def describe(old: Checkout, new: Checkout, seconds: dict[str, np.ndarray]) -> str:
    """Return the result as Markdown."""
    rows = []
    for name, pairs in seconds.items():
        ratios = pairs[:, 1] / pairs[:, 0]
        low, high = bootstrap_interval(ratios)
        old_ms, new_ms = (1e3 * median(column) for column in pairs.T)
        rows.append(f"| {name} | {old_ms:.1f} | {new_ms:.1f} | {median(ratios):.3f} | {low:.3f} to {high:.3f} |")
    rounds = len(next(iter(seconds.values())))
    used = versions()
    return "\n".join(
        [
            f"# Two commits: `python -m benchmarks.bench_commits {' '.join(sys.argv[1:])}`",
            "",
            "| operation | old, ms | new, ms | new / old | 95% interval |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Medians of {rounds} rounds, both commits in turn in each round. OpenMP and numba use one thread each;",
            f"pyarrow and threads of our own may use all {os.cpu_count()} processors.",
            f"Old: {old.commit}. New: {new.commit}.",
            f"CPU: {processor()}, torch {used['torch']}, Python {used['python']}.",
            "",
        ]
    )


def main(
    old: Annotated[str, typer.Argument(help="The commit to compare with")],
    new: Annotated[str, typer.Option(help="The commit that is compared")] = "HEAD",
    rounds: Annotated[int, typer.Option(min=2)] = 100,
    out: Annotated[Path | None, typer.Option(help="Write the result to this file too")] = None,
) -> None:
    """Compare two commits and print the result."""
    with open_checkouts(old, new) as (before, after):
        text = describe(before, after, time_in_turn(before, after, rounds))
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
