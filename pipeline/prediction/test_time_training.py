"""Checkpoint in, predictions out, where every scored task is answered by weights of its own (test-time training).

The task is trained on by itself for `train.task_steps` steps more: its demonstrations under all of its augmentations,
from the checkpoint's averaged weights and ID rows. What that gives answers the task's test inputs and is forgotten; the
next task begins where this one began. So an answer depends on the checkpoint, its task and the settings alone, and
processes share the tasks, each training by itself. A task's answers lie on disk as soon as it is done.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from augment import PuzzleSet
from pipeline.checkpoints.checkpoint import Checkpoint, new_table
from pipeline.checkpoints.load_model import prepare_model
from pipeline.config.run_config import PredictSettings, RunConfig
from pipeline.prediction.batch_size import BatchSize
from pipeline.prediction.predict import identify, make_predictions, start_memory
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.shards import Shards
from pipeline.prediction.workload import Queries, make_questions
from pipeline.runtime.console import Console
from pipeline.runtime.distributed import LaunchedProcesses
from pipeline.training.setup import learner_config
from pipeline.training.trainer import next_batch
from solver.data.sampler import Sampler
from solver.model.model import RecursiveModel
from solver.training.learner import Learner
from solver.training.step_result import NotFiniteError
from submissions.predictions import Predictions, Shard

DECIDING = {
    *("task_steps", "batch_size", "lr", "weight_decay", "betas", "id_lr", "id_weight_decay", "warmup", "min_ratio"),
    *("shift", "feed", "optimizer", "muon_lr", "id_optimizer"),
    *("loss", "label_smoothing", "halting_loss", "corrupted", "corruption"),
}
"""Training settings that decide what a task's weights become."""

STEP_COST = 2
"""A training step takes about as long as so many steps of answering as many examples."""
TIMED_STEPS = 2


def train_and_predict_tasks(
    trained: Checkpoint, puzzle_set: PuzzleSet, settings: PredictSettings, folder: Path, run: Console, **about: str
) -> Predictions:
    """Train on each task by itself and answer it, the cheapest tasks first; as `pipeline.prediction.predict.predict`
    otherwise.

    Nothing is asked again on the whole board.

    Raises:
        ValueError: where a puzzle has no trained ID row, for it is where its training begins.
    """
    config = one_task_config(trained.run_config)
    made_from = identify(trained, puzzle_set, settings.model_copy(update={"second_pass": False}))
    made_from |= {"seed": config.seed, "each_task": config.train.model_dump(mode="json", include=DECIDING)}

    def answer(predictor: Predictor, parts: Shards, settings: PredictSettings) -> tuple[range, dict[str, list[int]]]:
        return predict_each_task(predictor, parts, settings, config), {}

    return make_predictions(trained, puzzle_set, settings, folder, run, about, made_from, answer)


def one_task_config(config: RunConfig) -> RunConfig:
    """The config by which one task is trained on.

    No average is kept: over so few steps the usual one would be little else than the weights it starts at. Rates are
    those at which training ended: going back to their peaks undid more than it taught (`docs/lab_notebook.md`).
    """
    given = config.train
    steps = config.train.task_steps
    changes = {"steps": steps, "warmup": min(given.warmup, steps // 10), "average": None}
    changes |= {"curriculum": (), "ids_only": 0.0, "min_ratio": 1.0}
    changes |= {name: given.min_ratio * getattr(given, name) or 1e-12 for name in ("lr", "id_lr", "muon_lr")}
    return config.model_copy(update={"train": given.model_copy(update=changes)})


def predict_each_task(predictor: Predictor, parts: Shards, settings: PredictSettings, config: RunConfig) -> range:
    """Have a part made for each task; returns their numbers."""
    asked = predictor.questions.ask_by_task()
    memory = start_memory(predictor, sorted(asked, key=predictor.width, reverse=True), parts, settings.batch_size)
    specialist = TestTimeTrainer(predictor, memory, config, parts.run.log)
    asked.sort(key=specialist.cost)
    steps = config.train.steps
    parts.run.log(f"{len(asked)} tasks are trained on by themselves, {steps} steps each, before they are answered")
    sizes = {number: steps + len(rows) for number, rows in enumerate(asked)}
    parts.make("train and predict", sizes, lambda number, report: specialist.answer(asked[number], report))
    return range(len(asked))


class TestTimeTrainer:
    """A model that is trained on one task after another, each time from where it stands at the start.

    Args:
        predictor: with the model and the ID rows to start from.
        memory: what the device holds at once while it predicts.
        config: as `one_task_config` gives it.
    """

    def __init__(self, predictor: Predictor, memory: BatchSize, config: RunConfig, log: Callable[[str], None]):
        self.predictor = predictor
        self.memory = memory
        self.config = config
        self.log = log
        self.examples = predictor.questions.examples
        self.table = predictor.table
        self.weights = {name: tensor.clone() for name, tensor in predictor.model.state_dict().items()}
        self.most_positions: int | None = None
        """in training, once memory has run out"""

    def answer(self, asked: Queries, report: Callable[[int], None]) -> Shard:
        """The answers to rows of one task, after training on it; `report` is called with the steps and rows done."""
        with self.trained_on(self._task(asked), report):
            return self.predictor.answer(asked, self.memory, report)

    @contextmanager
    def trained_on(self, task: int, report: Callable[[int], None] = lambda steps: None) -> Iterator[None]:
        """While it lasts, the model and the ID rows of task number `task` are as training on it leaves them."""
        starts = self.predictor.questions.puzzle_set.starts
        table_PI = self.table.weights_PI
        puzzles = slice(int(starts[task]), int(starts[task + 1]))
        rows = torch.from_numpy(np.unique(self.examples.id_rows[puzzles])).to(table_PI.device)
        before_RI = table_PI[rows].clone()

        def start_again() -> None:
            self.predictor.model.load_state_dict(self.weights)
            table_PI[rows] = before_RI

        try:
            self._train(task, self.config.train.steps, report)
        except NotFiniteError as error:
            task_id = self.predictor.questions.puzzle_set.tasks[task].id
            self.log(f"task {task_id}: {error}; it is answered by the weights of all tasks")
            start_again()
        try:
            yield
        finally:
            start_again()

    def cost(self, asked: Queries) -> int:
        """How much there is to compute for a task, in positions: training and answers."""
        answers = self.predictor.steps * len(asked) * self._positions(asked)
        return STEP_COST * self.config.train.steps * self._batch_positions(asked) + answers

    def seconds(self, asked: list[Queries]) -> float:
        """How long it takes to train on all these tasks, by a few steps on the one whose batch is the largest."""
        largest = max(asked, key=self._batch_positions)
        for steps in (1, TIMED_STEPS):  # the first one compiles kernels
            start = time.monotonic()
            self._train(self._task(largest), steps)
        each = (time.monotonic() - start) / TIMED_STEPS / self._batch_positions(largest)
        return each * self.config.train.steps * sum(map(self._batch_positions, asked))

    def _train(self, task: int, steps: int, report: Callable[[int], None] = lambda steps: None) -> None:
        model = self.predictor.model
        learner = Learner(model, self.table, learner_config(self.config, model.precision == torch.float16))
        learner.most_positions = self.most_positions or learner.most_positions
        settings = self.config.train.model_copy(update={"batch_size": self._slots(task)})
        sampler = self._sampler(task)
        for _ in range(steps):
            learner.step(next_batch(self.examples, sampler, learner, settings).to(self.table.weights_PI.device))
            report(1)
        self.most_positions = learner.most_positions

    def _task(self, asked: Queries) -> int:
        return int(self.examples.tasks[asked.puzzles[0]])

    def _slots(self, task: int) -> int:
        """As many as in training, but no more than the task has examples."""
        puzzles = np.diff(self.predictor.questions.puzzle_set.starts)[task]
        return min(self.config.train.batch_size, int(puzzles * self.examples.trained[task]))

    def _positions(self, asked: Queries) -> int:
        """Of each row."""
        return self.predictor.model.config.id_slots + self.predictor.width(asked)

    def _batch_positions(self, asked: Queries) -> int:
        return self._slots(self._task(asked)) * self._positions(asked)

    def _sampler(self, task: int) -> Sampler:
        """Visits this task only, and in an epoch often enough for a batch."""
        weights = np.zeros(len(self.examples.trained))
        weights[task] = self.config.train.batch_size
        starts = self.predictor.questions.puzzle_set.starts
        keep_rest = self.config.train.feed == "halted"
        return Sampler(starts, self.examples.trained, self.config.seed, weights, keep_rest)


def estimate_test_time_training(config: RunConfig, puzzle_set: PuzzleSet, processes: LaunchedProcesses) -> float:
    """A cautious estimate of the training of all tasks, by an untrained model; answering them comes on top of it."""
    config, model = one_task_config(config), RecursiveModel(config.model)
    if not config.train.steps:
        return 0.0
    questions = make_questions(config, puzzle_set, config.predict.model_copy(update={"augmentations": 0}))
    table = new_table(questions.examples.row_keys, config.model)
    prepare_model(model, table, config.train.model_copy(update={"compile": False}), processes.device)
    predictor = Predictor(model, table, questions)
    specialist = TestTimeTrainer(predictor, BatchSize(config.model, 1, lambda said: None), config, lambda said: None)
    return 1.2 * specialist.seconds(questions.ask_by_task()) / processes.count
