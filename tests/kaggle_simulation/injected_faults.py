"""Seven faults that are injected into a run, each at its moment.

Children are found by their command lines among the descendants of the process that the user started.
"""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.kaggle_simulation.layout import Kaggle

BLOCK = bytes(1 << 20)
LAST_PASS = ("predict", "predictions")
"""A stage, and the folder in which it leaves its predictions."""


@dataclass(frozen=True)
class Going:
    """A run that is going: the process that the user started, its run folder, and the scratch disk under it."""

    process: psutil.Process
    folder: Path
    disk: Path

    def stages(self, *names: str) -> list[psutil.Process]:
        """The stages whose command lines hold words or paths of these names, outermost first."""
        found = []
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                words = {Path(word).name for word in process.cmdline()}
                found += [process] if {"pipeline.worker", *names} <= words else []
        return found

    def stage(self, *names: str) -> psutil.Process:
        """The innermost of them; NoSuchProcess where there is none any more."""
        found = self.stages(*names)
        if not found:
            raise psutil.NoSuchProcess(self.process.pid, msg=f"no stage {names}")
        return found[-1]

    def trains_on(self) -> bool:
        """Whether the first pass is voted, and training goes on and has measured something since."""
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            measured = (self.folder / "metrics.jsonl").stat().st_mtime
            return (self.folder / "passes" / "1").exists() and measured > self.stage("train").create_time()
        return False

    def predicts_last(self) -> bool:
        """Whether the last prediction has begun."""
        return bool(self.stages(*LAST_PASS))

    def descendants(self) -> list[psutil.Process]:
        """All that the process has started."""
        try:
            return self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


@dataclass(frozen=True)
class Fault:
    """One fault: done to the folders before the start, or to the run when its moment has come.

    leaves: what the run says of it
    budget: seconds that show it: until its moment, and long enough to go on from it
    from_scratch: whether it takes the backbone away; what a minute teaches without one answers nothing yet
    """

    name: str
    leaves: str
    budget: float = 120.0
    before: Callable[[Kaggle], None] | None = None
    moment: Callable[[Going], bool] = Going.trains_on
    strike: Callable[[Going], None] | None = None
    from_scratch: bool = False


def kill_trainer(run: Going) -> None:
    """SIGKILL, as the kernel does it."""
    run.stage("train").kill()


def take_memory(run: Going) -> None:
    """From now on the trainer gets no more memory than it has, and gives none back for long."""
    trainer = run.stage("train")
    limit = trainer.memory_info().rss
    trainer.rlimit(psutil.RLIMIT_AS, (limit, limit))


def fill_disk(run: Going) -> None:
    """Not a byte is left, and what is written over does not help."""
    with (run.disk / "other_file").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(BLOCK):
            pass


def corrupt_checkpoint(run: Going) -> None:
    """A few bytes of the newest weights are wrong, and the trainer must read them."""
    checkpoints = run.folder / "checkpoints"
    for folder in (sorted(checkpoints.glob("step_*"))[-1], checkpoints / "final"):
        for file in folder.glob("*.safetensors"):
            flip_bytes(file)
    run.stage("train").kill()


def flip_bytes(file: Path, number: int = 16) -> None:
    """Turn over the bits of the bytes in the middle of a file."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        bytes_there = stream.read(number)
        stream.seek(-len(bytes_there), 1)
        stream.write(bytes(255 - value for value in bytes_there))


def truncate_backbone(kaggle: Kaggle) -> None:
    """Half of the backbone's weights did not arrive."""
    for file in kaggle.backbone.glob("*.safetensors"):
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size // 2)


def break_task(kaggle: Kaggle) -> None:
    """A task in the middle of the challenges file has a ragged grid."""
    tasks = json.loads(kaggle.challenges.read_text(encoding="utf-8"))
    task = tasks[list(tasks)[len(tasks) // 2]]
    task["train"][0]["input"] = [[1, 2, 3], [4]]
    kaggle.challenges.write_text(json.dumps(tasks), encoding="utf-8")


def stop_predictor(run: Going) -> None:
    """The last prediction stands still, so that the plan was wrong and the time runs out."""
    run.stage(*LAST_PASS).send_signal(signal.SIGSTOP)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("trainer killed", "killed by signal 9", strike=kill_trainer),
        Fault("out of memory", "half as much", strike=take_memory),
        Fault("disk full", "space", strike=fill_disk),
        Fault("checkpoint corrupt", "cut short or altered", strike=corrupt_checkpoint),
        Fault("backbone truncated", "the backbone cannot be used", 60.0, before=truncate_backbone, from_scratch=True),
        Fault("task malformed", "cannot be read", 60.0, before=break_task),
        Fault("clock runs out", "not done in time", moment=Going.predicts_last, strike=stop_predictor),
    )
}
