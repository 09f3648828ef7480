"""Restart policy: whether a failed stage is started again, and with which options.

- The first restart repeats the same command.
- Out of memory halves how many boards are computed at once. So does a second kill without a measured step in between:
  the system's out-of-memory killer leaves no message.
- A full disk is cleared of files that the run does not need.
- After a failure of torch.compile nothing is compiled any more.
- Checkpoints that could not be read twice are put aside, and training starts from scratch, from the backbone.
- The last restart uses one process.
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from augment import PuzzleSet
from pipeline.config.run_config import RunConfig
from pipeline.kaggle.child_process import ChildResult
from pipeline.prediction.shards import ABOUT
from pipeline.runtime.exit_codes import ExitCode
from pipeline.runtime.run_folder import RunFolder, read_metrics

Stage = Literal["train", "predict"]
NAMES: dict[Stage, str] = {"train": "training", "predict": "prediction"}
FEWEST_PREDICT_BOARDS = 4


class RestartPolicy:
    """The failures of one run's stages, and the options of their next starts.

    report_incident: called with each failure and the measure that is taken
    """

    def __init__(self, config: RunConfig, run: RunFolder, report_incident: Callable[[str], None]):
        assert config.unattended is not None
        self.config = config
        self.run = run
        self.report_incident = report_incident
        self.limit = config.unattended.restarts
        self.restarts = Counter[Stage]()
        self.boards = dict[Stage, int]()
        self.given_up = set[Stage]()
        self.from_scratch = False
        self.single_process = False
        self.eager = False
        self._last_failure = dict[Stage, tuple[str, int]]()
        self.batch_in_boards = config.train.batch_size
        self.parts: Path | None = None

    def set_batch_size(self, puzzle_set: PuzzleSet, processes: int) -> None:
        """Compute a process's share of a training batch, in cells of full boards, for the first halving."""
        cells = puzzle_set.canvases.astype(int).prod(axis=1).mean() / puzzle_set.board_side**2
        self.batch_in_boards = max(1, math.ceil(cells * self.config.train.batch_size / processes))

    def begin_pass(self, parts: Path) -> None:
        """Give the next prediction pass restarts of its own; `parts` is the folder of its parts."""
        self.parts = parts
        self.restarts["predict"] = 0
        self.given_up.discard("predict")

    def may_start(self, stage: Stage) -> bool:
        """Return whether the stage may be started."""
        return stage not in self.given_up

    def options(self, stage: Stage) -> list[str]:
        """Return the additional options of the next start; starting from scratch applies to one start only."""
        option = {"train": "--micro-batch", "predict": "--boards"}[stage]
        options = [option, str(self.boards[stage])] if stage in self.boards else []
        options += ["--eager"] if self.eager else []
        if stage == "train" and self.from_scratch:
            options = [*options, "--from-scratch"]
            self.from_scratch = False
        return options

    def process_count(self, stage: Stage, processes: int) -> int:
        """Return the number of processes of the next start: one if it is the last start or devices are missing."""
        last = self.restarts[stage] and self.restarts[stage] == self.limit
        return 1 if last or self.single_process else processes

    def record_failure(self, stage: Stage, result: ChildResult) -> None:
        """Decide what to change after a stage has failed, and report it."""
        failure = (result.describe(), self._newest_step())
        same_again = self._last_failure.get(stage) == failure
        self._last_failure[stage] = failure
        killed_again = same_again and result.killed
        prefix = f"{NAMES[stage]} failed: {result.describe()}"
        if self.restarts[stage] >= self.limit:
            self.given_up.add(stage)
            self.report_incident(f"{prefix}; it is given up, and the run continues with what it has")
            return
        self.restarts[stage] += 1
        if result.out_of_memory or killed_again:
            measure = self._halve(stage)
        elif result.disk_full:
            measure = self._make_room()
        elif result.has_code(ExitCode.NO_DEVICE):
            self.single_process = True
            measure = "it is started in one process"
        elif result.has_code(ExitCode.COMPILATION):
            self.eager = True
            measure = "it is started without torch.compile"
        elif same_again and stage == "train" and result.has_code(ExitCode.UNREADABLE_CHECKPOINT):
            self.from_scratch = True
            measure = "it starts from scratch"
        else:
            measure = "it resumes from its last checkpoint" if stage == "train" else "it is started again"
        self.report_incident(f"{prefix}; {measure}")
        self.run.log(f"restarting {NAMES[stage]} ({self.restarts[stage]} of {self.limit})")

    def _halve(self, stage: Stage) -> str:
        """Halve how many boards the stage computes at once; returns the measure in words, as do those below."""
        before = self.boards.get(stage, self.batch_in_boards if stage == "train" else self._boards_of_pass())
        self.boards[stage] = max(1, before // 2)
        return f"half as much is computed at once: {self.boards[stage]} boards"

    def _boards_of_pass(self) -> int:
        """Return how many boards the failed pass computed at once, as its parts.json or the settings say."""
        try:
            return int(json.loads((self.parts / ABOUT).read_bytes())["boards"]) if self.parts else FEWEST_PREDICT_BOARDS
        except (OSError, ValueError, KeyError, TypeError):
            return self.config.predict.batch_size or FEWEST_PREDICT_BOARDS

    def _make_room(self) -> str:
        """Remove what the run does not need: older checkpoints, half-written files, dumps of failed steps."""
        steps = sorted(self.run.checkpoints.glob("step_[0-9]*"))[:-1]
        spare = [*steps, *self.run.path.glob("failed_step_*"), *self.run.path.rglob(".*.unfinished")]
        for path in spare:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return f"{len(spare)} files and folders that the run does not need were removed"

    def _newest_step(self) -> int:
        lines = read_metrics(self.run.path)[-1:]
        return lines[0]["step"] if lines else 0
