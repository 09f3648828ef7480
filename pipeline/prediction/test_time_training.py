"""Test-time training: trains a copy of the model on each scored task, and predicts the task's test inputs with it.

Each task is trained on alone for `train.task_steps` further steps, starting from the checkpoint's averaged weights and
ID rows. The training data are its demonstrations under all of its augmentations. The resulting weights predict the
task's test inputs and are then discarded, and the next task starts from the checkpoint again. A prediction therefore
depends only on the checkpoint, the task and the settings. Processes share the tasks without communicating while they
train. The predictions of a task are saved as soon as they are made.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from augment import PuzzleSet
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.compilation import explain_compilation
from pipeline.config.run_config import PredictSettings, RunConfig
from pipeline.prediction.predict import identify, make_predictions, open_batch_size
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.shards import Shards
from pipeline.prediction.workload import Queries
from pipeline.runtime.console import Console
from pipeline.training.batch_size import BatchSize
from pipeline.training.batch_source import next_batch
from pipeline.training.setup import learner_config
from solver.data.sampler import Sampler
from solver.training.learner import Learner
from solver.training.position_limit import PositionLimit
from solver.training.step_result import NotFiniteError
from submissions.predictions import Predictions, Shard

DECIDING = {
    *("task_steps", "batch_size", "lr", "weight_decay", "betas", "id_lr", "id_weight_decay", "warmup", "min_ratio"),
    *("shift", "feed", "optimizer", "muon_lr", "id_optimizer"),
    *("loss", "label_smoothing", "halting_loss", "corrupted", "corruption"),
}
"""Training settings that determine a task's weights, and are therefore recorded with the predictions."""

STEP_COST = 2
"""Duration of a training step, relative to a supervision step of prediction with the same number of examples."""
TIMED_STEPS = 2
"""Training steps that are timed for the estimate."""


@explain_compilation()
def train_and_predict_tasks(
    trained: Checkpoint, puzzle_set: PuzzleSet, settings: PredictSettings, folder: Path, run: Console, **about: str
) -> Predictions:
    """Train on each task alone and predict its test inputs, starting with the cheapest tasks.

    The arguments and the result are those of `pipeline.prediction.predict.predict`, but there is no second pass on the
    whole board.

    Raises:
        UserError: if a puzzle has no trained ID row, from which its training would start.
    """
    config = one_task_config(trained.run_config)
    made_from = identify(trained, puzzle_set, settings.model_copy(update={"second_pass": False}))
    made_from |= {"seed": config.seed, "each_task": config.train.model_dump(mode="json", include=DECIDING)}

    def predict_parts(
        predictor: Predictor, parts: Shards, settings: PredictSettings
    ) -> tuple[range, dict[str, list[int]]]:
        return predict_each_task(predictor, parts, settings, config), {}

    return make_predictions(trained, puzzle_set, settings, folder, run, about, made_from, predict_parts)


def one_task_config(config: RunConfig) -> RunConfig:
    """Return the config for training on one task.

    There is no moving average: over so few steps, the usual one would hardly differ from the initial weights. Learning
    rates are those at which training ended, as returning to their peaks destroyed more than it taught
    (`docs/lab_notebook.md`).
    """
    settings = config.train
    steps = config.train.task_steps
    changes = {"steps": steps, "warmup": min(settings.warmup, steps // 10), "average": None}
    changes |= {"curriculum": (), "ids_only": 0.0, "min_ratio": 1.0}
    # A learning rate must be above 0, so 1e-12 stands for none.
    changes |= {name: settings.min_ratio * getattr(settings, name) or 1e-12 for name in ("lr", "id_lr", "muon_lr")}
    return config.model_copy(update={"train": settings.model_copy(update=changes)})


def predict_each_task(predictor: Predictor, parts: Shards, settings: PredictSettings, config: RunConfig) -> range:
    """Train on each task and predict it, as one part for each task; returns the numbers of the parts."""
    queries = predictor.questions.ask_by_task()
    memory = open_batch_size(predictor, sorted(queries, key=predictor.width, reverse=True), parts, settings.batch_size)
    trainer = TaskTrainer(predictor, memory, config, parts.run.log)
    queries.sort(key=trainer.cost)
    steps = config.train.steps
    parts.run.log(f"test-time training on {len(queries)} tasks, {steps} steps each, before each is predicted")
    sizes = {number: steps + len(rows) for number, rows in enumerate(queries)}
    parts.make("train and predict", sizes, lambda number, report: trainer.answer(queries[number], report))
    return range(len(queries))


class TaskTrainer:
    """Trains one model on one task after another, each time from the same initial weights.

    Args:
        predictor: its model and ID table are the initial ones, and are changed in place.
        memory: chooses the batch sizes of prediction.
        config: as returned by `one_task_config`.
        log: called with a message when the training on a task fails.
    """

    def __init__(self, predictor: Predictor, memory: BatchSize, config: RunConfig, log: Callable[[str], None]):
        self.predictor = predictor
        self.memory = memory
        self.config = config
        self.log = log
        self.examples = predictor.questions.examples
        self.table = predictor.table
        self.weights = {name: tensor.clone() for name, tensor in predictor.model.state_dict().items()}
        self.limit: PositionLimit | None = None
        """the limit of positions in training, as the earlier tasks left it"""

    def answer(self, asked: Queries, report: Callable[[int], None]) -> Shard:
        """Train on the rows' task and predict the rows; `report` is called with the steps and rows done."""
        with self.trained_on(self._task(asked), report):
            return self.predictor.answer(asked, self.memory, report)

    @contextmanager
    def trained_on(self, task: int, report: Callable[[int], None] = lambda steps: None) -> Iterator[None]:
        """Train on task number `task` while the context is open, then restore the model and the task's ID rows."""
        starts = self.predictor.questions.puzzle_set.starts
        table_PI = self.table.weights_PI
        puzzles = slice(int(starts[task]), int(starts[task + 1]))
        rows = torch.from_numpy(np.unique(self.examples.id_rows[puzzles])).to(table_PI.device)
        before_RI = table_PI[rows].clone()

        def restore() -> None:
            self.predictor.model.load_state_dict(self.weights)
            table_PI[rows] = before_RI

        try:
            self._train(task, self.config.train.steps, report)
        except NotFiniteError as error:
            task_id = self.predictor.questions.puzzle_set.tasks[task].id
            self.log(f"task {task_id}: {error}; it is predicted with the checkpoint's weights")
            restore()
        try:
            yield
        finally:
            restore()

    def cost(self, asked: Queries) -> int:
        """Return the cost of training on a task and predicting it, in positions times supervision steps."""
        prediction = self.predictor.steps * len(asked) * self._positions(asked)
        return STEP_COST * self.config.train.steps * self._batch_positions(asked) + prediction

    def seconds(self, asked: list[Queries]) -> tuple[float, float]:
        """Estimate the seconds to train on all these tasks, from a few steps on the one with the largest batch.

        On CUDA a few steps are made for each width of the canvas: a small batch takes longer for each position there.

        Returns:
            (seconds of the first steps, which compile kernels on CUDA and are not counted on a CPU; seconds of all
            steps).
        """
        cuda = self.table.weights_PI.device.type == "cuda"
        by_width: dict[int, list[Queries]] = {}
        for queries in asked:
            by_width.setdefault(self.predictor.width(queries) if cuda else 0, []).append(queries)
        first = total = 0.0
        for group in by_width.values():
            largest = max(group, key=self._batch_positions)
            compiling, timed = (self._time(self._task(largest), steps) for steps in (1, TIMED_STEPS))
            first += compiling if cuda else 0.0
            per_position = timed / TIMED_STEPS / self._batch_positions(largest)
            total += per_position * self.config.train.steps * sum(map(self._batch_positions, group))
        return first, total

    def _time(self, task: int, steps: int) -> float:
        """Return the seconds that steps on a task take, until the device has made them."""
        device = self.table.weights_PI.device
        start = time.monotonic()
        self._train(task, steps)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic() - start

    def _train(self, task: int, steps: int, report: Callable[[int], None] = lambda steps: None) -> None:
        model = self.predictor.model
        learner = Learner(model, self.table, learner_config(self.config, model.precision == torch.float16))
        # What an earlier task found out about the memory holds for this task too.
        learner.limit = self.limit = self.limit or learner.limit
        settings = self.config.train.model_copy(update={"batch_size": self._slots(task)})
        sampler = self._sampler(task)
        for _ in range(steps):
            learner.step(next_batch(self.examples, sampler, learner, settings).to(self.table.weights_PI.device))
            report(1)

    def _task(self, queries: Queries) -> int:
        return int(self.examples.tasks[queries.puzzles[0]])

    def _slots(self, task: int) -> int:
        """Return the batch size for a task: that of training, but at most the number of the task's examples."""
        puzzles = np.diff(self.predictor.questions.puzzle_set.starts)[task]
        return min(self.config.train.batch_size, int(puzzles * self.examples.trained[task]))

    def _positions(self, queries: Queries) -> int:
        """Return the number of positions of each row."""
        return self.predictor.model.config.id_slots + self.predictor.width(queries)

    def _batch_positions(self, queries: Queries) -> int:
        return self._slots(self._task(queries)) * self._positions(queries)

    def _sampler(self, task: int) -> Sampler:
        """Return a sampler that draws this task only, and often enough in each epoch to fill a batch."""
        weights = np.zeros(len(self.examples.trained))
        weights[task] = self.config.train.batch_size
        starts = self.predictor.questions.puzzle_set.starts
        keep_rest = self.config.train.feed == "halted"
        return Sampler(starts, self.examples.trained, self.config.seed, weights, keep_rest)
