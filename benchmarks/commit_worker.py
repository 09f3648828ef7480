"""Time operations of another checkout, on request; `bench_commits` starts it, with the checkout on the search path.

Reads the name of an operation from standard input, and writes its seconds to standard output, until the end of input.
It uses only what both checkouts have.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"  # read on import

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from augment import SourcedTasks, build_puzzle_set, load_tasks, open_puzzle_set, write_puzzle_set
from benchmarks.bench_train import Trial, prepare_work
from benchmarks.bench_vote import Answered, Clock, attempts, our_way
from pipeline.recipes.registry import recipe
from solver.training.deep_supervision import last_output, predict_steps
from submissions import read_predictions

SOURCE = "arc-agi-1/evaluation"
PREDICTED_STEPS = 4
AUGMENTATIONS = {"opening": 1000, "building": 100, "voting": 100}


def prepare(folder: Path) -> dict[str, Callable[[], object]]:
    """Write what the operations read, and return them by name."""
    tasks = load_tasks(SOURCE)
    sources = [SourcedTasks("evaluation", "scored", tasks)]
    write_puzzle_set(build_puzzle_set(sources, AUGMENTATIONS["opening"], seed=0), folder / "large")
    (folder / "votes").mkdir()
    answered = Answered(tasks, AUGMENTATIONS["voting"])
    our_way(answered, Clock(), folder / "votes")
    work = prepare_work(recipe("cpu"), None)
    trial = Trial(work, "task", False, torch.device("cpu"))
    learner = trial.learner
    assert learner is not None
    batch = work.batch(trial.examples)

    def build() -> None:
        write_puzzle_set(build_puzzle_set(sources, AUGMENTATIONS["building"], seed=0), folder / "built")
        shutil.rmtree(folder / "built")

    return {
        "opening": lambda: open_puzzle_set(folder / "large"),
        "building": build,
        "voting": lambda: attempts(read_predictions(folder / "votes" / "predictions"), answered.set.tasks),
        "rendering": lambda: work.batch(trial.examples),
        "a training step": trial.step,
        "predicting": lambda: last_output(predict_steps(learner.model, learner.table, batch, PREDICTED_STEPS)),
    }


def main() -> None:
    """Answer requests. Every operation is done twice before the first, which compiles and fills caches."""
    torch.set_num_threads(1)
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the operations print is no answer
    with tempfile.TemporaryDirectory() as folder:
        operations = prepare(Path(folder))
        for operation in [*operations.values()] * 2:
            operation()
        print(" ".join(name.replace(" ", "_") for name in operations), file=answers, flush=True)
        for line in sys.stdin:
            operation = operations[line.strip().replace("_", " ")]
            start = time.perf_counter()
            operation()
            print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
