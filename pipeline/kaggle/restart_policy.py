"""After a stage has died: what to do differently, and whether to try again.

In: how each child ended. Out: options for the next one. The same start is tried again first; out of memory halves what
is computed at once, and so does being killed twice without a measured step in between, since the system's own killer
leaves no words; a full disk is cleared of what can be spared; checkpoints that twice could not be read are put aside,
and training begins anew from the backbone; and the last try is made in one process.
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
    """What was learnt from the deaths of one run's stages.

    report_incident: told of each death and of what is done about it
    """

    def __init__(self, config: RunConfig, run: RunFolder, report_incident: Callable[[str], None]):
        assert config.unattended is not None
        self.config = config
        self.run = run
        self.report_incident = report_incident
        self.most = config.unattended.restarts
        self.restarts = Counter[Stage]()
        self.boards = dict[Stage, int]()
        self.given_up = set[Stage]()
        self.anew = False
        self.single_process = False
        self._last = dict[Stage, tuple[str, int]]()
        self.batch_in_boards = config.train.batch_size
        self.parts: Path | None = None

    def know(self, puzzle_set: PuzzleSet, processes: int) -> None:
        """How many full boards' worth of cells a process's share of a training batch has."""
        cells = puzzle_set.canvases.astype(int).prod(axis=1).mean() / puzzle_set.board_side**2
        self.batch_in_boards = max(1, math.ceil(cells * self.config.train.batch_size / processes))

    def begin_pass(self, parts: Path) -> None:
        """Another prediction has tries of its own; its parts say how much it computes at once."""
        self.parts = parts
        self.restarts["predict"] = 0
        self.given_up.discard("predict")

    def may(self, stage: Stage) -> bool:
        """Whether the stage may be started."""
        return stage not in self.given_up

    def words(self, stage: Stage) -> list[str]:
        """Options that the next start gets besides its own."""
        option = {"train": "--micro-batch", "predict": "--boards"}[stage]
        words = [option, str(self.boards[stage])] if stage in self.boards else []
        if stage == "train" and self.anew:
            words = [*words, "--anew"]
            self.anew = False
        self.single_process = False
        return words

    def processes(self, stage: Stage, processes: int) -> int:
        """In how many processes the next start works: in one where it is the last, or devices are missing."""
        last = self.restarts[stage] and self.restarts[stage] == self.most
        return 1 if last or self.single_process else processes

    def learn(self, stage: Stage, ended: ChildResult) -> None:
        """Decide what to do after a child did not end well."""
        same_again = self._last.get(stage) == (sign := (ended.describe(), self._newest_step()))
        self._last[stage] = sign
        killed_again = same_again and ended.killed
        if self.restarts[stage] >= self.most:
            self.given_up.add(stage)
            self.report_incident(
                f"{NAMES[stage]} died: {ended.describe()}; it is given up, and the run goes on with what it has"
            )
            return
        self.restarts[stage] += 1
        done = ""
        if ended.out_of_memory or killed_again:
            done = self._halve(stage)
        elif ended.disk_full:
            done = self._make_room()
        elif ended.has_code(ExitCode.NO_DEVICE):
            self.single_process = True
            done = "it is started in one process"
        elif same_again and stage == "train" and ended.has_code(ExitCode.UNREADABLE_CHECKPOINT):
            self.anew = True
            done = "it begins anew"
        said = f"{NAMES[stage]} died: {ended.describe()}"
        self.report_incident(
            f"{said}; {done or 'it goes on from its last checkpoint' if stage == 'train' else done or 'again'}"
        )
        self.run.log(f"restarting {NAMES[stage]} ({self.restarts[stage]} of {self.most})")

    def _halve(self, stage: Stage) -> str:
        before = self.boards.get(stage, self.batch_in_boards if stage == "train" else self._boards_found())
        self.boards[stage] = max(1, before // 2)
        return f"half as much is computed at once: {self.boards[stage]} boards"

    def _boards_found(self) -> int:
        """What the pass that died computed at once."""
        try:
            return int(json.loads((self.parts / ABOUT).read_bytes())["boards"]) if self.parts else FEWEST_PREDICT_BOARDS
        except (OSError, ValueError, KeyError, TypeError):
            return self.config.predict.batch_size or FEWEST_PREDICT_BOARDS

    def _make_room(self) -> str:
        """Remove what the run can do without: older checkpoints, half-written files, failed steps."""
        steps = sorted(self.run.checkpoints.glob("step_[0-9]*"))[:-1]
        spare = [*steps, *self.run.path.glob("failed_step_*"), *self.run.path.rglob(".*.unfinished")]
        for path in spare:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return f"{len(spare)} files and folders that can be spared were removed"

    def _newest_step(self) -> int:
        lines = read_metrics(self.run.path)[-1:]
        return lines[0]["step"] if lines else 0
