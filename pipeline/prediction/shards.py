"""A long stage in parts: what is done lies beside the folder that will be, and a stage that was killed goes on.

In: numbered parts to make, shared among processes. Out: OUT.parts, with `parts.json` saying what they belong to, and a
few files for each part (`submissions.prediction_files.write_shard`). Which process makes a part changes nothing in it.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augment.errors import UserError
from augment.storage import write_json
from pipeline.runtime.console import Console
from pipeline.runtime.progress import Progress
from submissions.prediction_files import find_shards, read_shard, write_shard
from submissions.predictions import PredictionRows, ScoreRows, Shard

if TYPE_CHECKING:  # whoever only looks at parts needs no torch
    from pipeline.runtime.distributed import LaunchedProcesses

FORMAT = 2
ABOUT = "parts.json"
KINDS = {PredictionRows: "Answers", ScoreRows: "Scores"}
"""What shards hold, as `ABOUT` names it."""
PART_FILE = re.compile(r"\d{6}\.|\.?parts\.json")


def shards_folder(folder: Path) -> Path:
    """Where the parts of a predictions folder lie until it is there."""
    return folder.with_name(f"{folder.name}.parts")


class Shards:
    """The parts of one folder, as one of the processes sees them.

    Args:
        path: the folder they lie in.
        kind: whether they hold answers or scores.
        tasks: what the numbers of tasks in them mean.
        belongs: what decides their content; parts of something else are removed.
    """

    def __init__(
        self,
        path: Path,
        kind: type[PredictionRows] | type[ScoreRows],
        tasks: Sequence[str],
        belongs: dict[str, Any],
        processes: "LaunchedProcesses",
        run: Console,
    ):
        self.path = path
        self.kind = kind
        self.tasks = tasks
        self.processes = processes
        self.run = run
        self.belongs = json.loads(json.dumps({"format": FORMAT, "kind": KINDS[kind], **belongs}))

    def open(self, find_boards: Callable[[], int], asked: int | None) -> int:
        """Go on with the parts that are there, or begin; returns the boards to compute at once.

        They are what was `asked` for, else what they were before, else what all processes find to fit.
        """
        first = self.processes.index == 0
        goes_on = self.processes.any(first and self._is_ours())
        if not goes_on:
            boards = self.processes.smallest(asked or find_boards())
            if first:
                self._begin(boards)
        elif first:
            self._drop_damaged()
        self.processes.wait()
        if not (self.path / ABOUT).is_file():
            raise UserError(f"{self.path}: not every process sees this folder", "let all share it")
        return asked or self._about()["boards"]

    def make(
        self,
        name: str,
        sizes: dict[int, int],
        make: Callable[[int, Callable[[int], None]], Shard],
    ) -> None:
        """Have every part of `sizes` (number: units of work) made by one of the processes; returns when all are.

        make: given a part's number and what to call when some units are done, the part.
        """
        found = find_shards(self.path, self.kind) & sizes.keys()
        missing = sorted(sizes.keys() - found)
        self.processes.wait()  # nobody begins before everybody has seen the same
        done = sum(sizes[number] for number in found)
        with Progress(self.run, name, sum(sizes.values()), done) as progress:
            report = _Report(self, progress, sizes)
            for number in missing[self.processes.index :: self.processes.count]:
                write_shard(self.path, number, make(number, report.add), self.tasks)
                report.finish()
            self.processes.wait_until(lambda: report.show() >= len(sizes))

    def read(self, numbers: Sequence[int]) -> Iterator[Shard]:
        """The parts, one in memory at a time."""
        for number in numbers:
            yield read_shard(self.path, number, self.tasks, self.kind)

    def remove(self) -> None:
        """Once they are no longer needed."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _about(self) -> dict[str, Any]:
        try:
            about = json.loads((self.path / ABOUT).read_bytes())
            return about if isinstance(about, dict) else {}
        except (OSError, ValueError):
            return {}

    def _is_ours(self) -> bool:
        about = self._about()
        return about.get("belongs") == self.belongs and isinstance(about.get("boards"), int)

    def _begin(self, boards: int) -> None:
        if self.path.exists():
            self._refuse_other_content()
            self.run.log(f"{self.path}: its parts belong to something else or are damaged; all are made anew")
            self.remove()
        self.path.mkdir(parents=True)
        write_json(self.path / ABOUT, {"belongs": self.belongs, "boards": boards})

    def _refuse_other_content(self) -> None:
        """ValueError where the folder holds what no stage has written, before it is removed."""
        strange = [each.name for each in self.path.iterdir() if each.name != ABOUT and not PART_FILE.match(each.name)]
        if strange:
            raise UserError(
                f"{self.path}: holds {strange[0]}, which is no part of predictions, and would be removed",
                "move it away, or name another folder with --out",
            )

    def _drop_damaged(self) -> None:
        numbers = sorted(find_shards(self.path, self.kind))
        for number in numbers:
            try:
                read_shard(self.path, number, self.tasks, self.kind)
            except (OSError, ValueError, KeyError) as error:
                self.run.log(f"{self.path}: part {number} is damaged and is made again ({str(error)[:100]})")
                for file in self.path.glob(f"{number:06d}.*"):
                    file.unlink()
        self.run.log(f"{len(numbers)} parts were made before: {self.path}")


class _Report:
    """Shows what all processes have done: parts on disk, and of this process's part what is in memory."""

    def __init__(self, parts: Shards, progress: Progress, sizes: dict[int, int]):
        self.parts = parts
        self.progress = progress
        self.sizes = sizes
        self.current = 0

    def add(self, units: int) -> None:
        self.current += units
        self.show()

    def finish(self) -> None:
        self.current = 0
        self.show()

    def show(self) -> int:
        """How many parts are there."""
        found = find_shards(self.parts.path, self.parts.kind) & self.sizes.keys()
        more = sum(self.sizes[number] for number in found) + self.current - self.progress.done
        if more > 0:
            self.progress.advance(more)
        return len(found)
