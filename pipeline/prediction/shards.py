"""Computes a long stage in numbered parts (shards) that processes share, and that a restarted stage resumes from.

Finished parts are stored in the folder OUT.parts until the stage is complete. It has `parts.json`, which identifies the
inputs that the parts were made from, and a few files for each part (`submissions.prediction_files.write_shard`). A
part's contents do not depend on the process that made it.
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

if TYPE_CHECKING:  # reading parts alone needs no torch
    from pipeline.runtime.distributed import LaunchedProcesses

FORMAT = 2
ABOUT = "parts.json"
KINDS = {PredictionRows: "Answers", ScoreRows: "Scores"}
"""The name that `ABOUT` gives to the contents of shards."""
PART_FILE = re.compile(r"\d{6}\.|\.?parts\.json")
"""Matches the beginning of the names of all files that a stage writes into the folder."""


def shards_folder(folder: Path) -> Path:
    """Return the folder with the parts of an unfinished predictions folder."""
    return folder.with_name(f"{folder.name}.parts")


class Shards:
    """Makes and reads the parts of one folder, together with the other processes.

    Args:
        path: the folder of the parts.
        kind: whether they contain predictions or scores.
        tasks: the task IDs that the task numbers in the parts stand for.
        belongs: the inputs that determine the contents; parts made from other inputs are removed.
        processes: the processes that share the work.
        run: where progress is shown.
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
        """Open existing parts of the same inputs, or create the folder.

        Args:
            find_boards: measures how many boards fit in this process's memory; called only for a new folder.
            asked: a fixed number of boards, None to choose it.

        Returns:
            How many boards to compute at once. It is `asked` if given, otherwise the number stored in an existing
            folder, otherwise the smallest that `find_boards` returns in any process.

        Raises:
            UserError: if the processes do not share the folder, or it contains files of something else.
        """
        first = self.processes.index == 0
        resumes = self.processes.any(first and self._is_ours())
        if not resumes:
            boards = self.processes.smallest(asked or find_boards())
            if first:
                self._begin(boards)
        elif first:
            self._drop_damaged()
        self.processes.wait()
        if not (self.path / ABOUT).is_file():
            raise UserError(
                f"{self.path}: not every process sees this folder", "use a file system that all processes share"
            )
        return asked or self._about()["boards"]

    def make(
        self,
        name: str,
        sizes: dict[int, int],
        make: Callable[[int, Callable[[int], None]], Shard],
    ) -> None:
        """Make all missing parts, and return when every process has made its share.

        Args:
            name: the label of the progress bar.
            sizes: units of work by part number.
            make: returns the part with the given number; it calls its second argument with the units it has done.
        """
        existing = find_shards(self.path, self.kind) & sizes.keys()
        missing = sorted(sizes.keys() - existing)
        # No process may add parts before all have listed the folder, or their lists and so their shares would differ.
        self.processes.wait()
        done = sum(sizes[number] for number in existing)
        with Progress(self.run, name, sum(sizes.values()), done) as progress:
            report = _Report(self, progress, sizes)
            for number in missing[self.processes.index :: self.processes.count]:
                write_shard(self.path, number, make(number, report.add), self.tasks)
                report.finish()
            self.processes.wait_until(lambda: report.show() >= len(sizes))

    def read(self, numbers: Sequence[int]) -> Iterator[Shard]:
        """Read these parts, one in memory at a time."""
        for number in numbers:
            yield read_shard(self.path, number, self.tasks, self.kind)

    def remove(self) -> None:
        """Delete the folder of the parts."""
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
            self.run.log(f"{self.path}: its parts were made from other inputs or are damaged; all are made again")
            self.remove()
        self.path.mkdir(parents=True)
        write_json(self.path / ABOUT, {"belongs": self.belongs, "boards": boards})

    def _refuse_other_content(self) -> None:
        """Raise a UserError if the folder, which is about to be removed, contains files that no stage has written."""
        names = [file.name for file in self.path.iterdir() if file.name != ABOUT and not PART_FILE.match(file.name)]
        if names:
            raise UserError(
                f"{self.path}: contains {names[0]}, which is not part of predictions and would be deleted",
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
    """Shows the progress of all processes: parts on disk, and the finished units of this process's current part."""

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
        """Update the progress bar, and return how many parts exist."""
        existing = find_shards(self.parts.path, self.parts.kind) & self.sizes.keys()
        more = sum(self.sizes[number] for number in existing) + self.current - self.progress.done
        if more > 0:
            self.progress.advance(more)
        return len(existing)
