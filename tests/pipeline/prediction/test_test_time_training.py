"""Test-time training: it lowers the task's loss, leaves other tasks unchanged, and is reproducible."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit

from augment import PuzzleSet, open_puzzle_set, write_puzzle_set
from pipeline.checkpoints.checkpoint import Checkpoint, save_checkpoint
from pipeline.config.run_config import PredictSettings, build_config, override
from pipeline.prediction.predict import make_predictor, predict
from pipeline.prediction.test_time_training import TaskTrainer, one_task_config, train_and_predict_tasks
from pipeline.prediction.time_estimate import estimate_test_time_training
from pipeline.prediction.workload import Workload
from pipeline.runtime.distributed import join_process_group
from pipeline.runtime.exit_codes import CompilationError
from pipeline.training.batch_size import BatchSize
from solver.model.model import RecursiveModel
from solver.training.deep_supervision import last_output, predict_steps
from solver.training.learner import Learner
from solver.training.step_result import NotFiniteError, StepResult
from submissions import Predictions, read_predictions
from tests.helpers.commands import run
from tests.helpers.paths import ROOT
from tests.helpers.predictions import Notes, crash_after, same_files
from tests.helpers.pretended_gpu import pretended_gpu
from tests.helpers.resume import Crash
from tests.helpers.untrained import MODEL, make_checkpoint, make_set

STEPS = 4
ONCE = PredictSettings()


@pytest.fixture(scope="module")
def puzzle_set(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    """Five tasks under up to eight puzzles each."""
    folder = tmp_path_factory.mktemp("sets") / "set"
    write_puzzle_set(make_set(augmentations=7, max_side=9, limit=5), folder)
    return open_puzzle_set(folder)


def make_trained(puzzle_set: PuzzleSet, **train: Any) -> Checkpoint:
    """An untrained checkpoint that asks for steps on each task."""
    checkpoint = make_checkpoint(puzzle_set)
    chosen = {"task_steps": STEPS, "batch_size": 6, "lr": 3e-3, **train}
    config = override(build_config(checkpoint.config), {f"train.{name}": value for name, value in chosen.items()})
    return replace(checkpoint, config=config.model_dump(mode="json"))


@pytest.fixture(scope="module")
def plain(puzzle_set: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Specialised predictions that nothing happened to."""
    folder = tmp_path_factory.mktemp("predictions") / "plain"
    train_and_predict_tasks(make_trained(puzzle_set), puzzle_set, ONCE, folder, Notes())
    return folder


def answers_of(made: Predictions, task: str) -> dict[str, list[Any]]:
    """All that is known of a task's answers, in their order."""
    rows = made.answers.take(made.answers.task == made.tasks.index(task))
    grids = [made.grids[number].tolist() if number >= 0 else None for number in rows.grid.tolist()]
    names = ("test", "augmentation", "step", "log_prob", "halt_logit")
    return {"grid": grids} | {name: np.nan_to_num(getattr(rows, name), nan=1).tolist() for name in names}


def make_specialist(trained: Checkpoint, puzzle_set: PuzzleSet) -> TaskTrainer:
    predictor = make_predictor(trained, puzzle_set, ONCE, join_process_group(), Notes())
    config = build_config(trained.config)
    batch_size = BatchSize(config.model, 4, Notes().log, torch.device("cpu"))
    return TaskTrainer(predictor, batch_size, one_task_config(config), Notes().log)


# What is learnt, and what is not.


def loss_on(specialist: TaskTrainer, task: int) -> float:
    """On the task's demonstrations under all of its augmentations."""
    starts, examples = specialist.predictor.questions.puzzle_set.starts, specialist.examples
    count = int(examples.trained[task])
    puzzles = np.arange(starts[task], starts[task + 1]).repeat(count)
    batch = examples.render(puzzles, np.tile(np.arange(count), len(puzzles) // count))
    logits_BCV = last_output(predict_steps(specialist.predictor.model, specialist.table, batch)).logits_BCV
    labels_BC = batch.labels_BS
    right_BC = logits_BCV.softmax(-1).gather(-1, labels_BC[..., None])[..., 0]
    return float(-right_BC[labels_BC > 0].log().mean())


def test_a_task_is_learnt_while_it_is_answered_and_forgotten_after(puzzle_set: PuzzleSet) -> None:
    specialist = make_specialist(make_trained(puzzle_set, task_steps=20), puzzle_set)
    weights = {name: tensor.clone() for name, tensor in specialist.predictor.model.state_dict().items()}
    rows_PI = specialist.table.weights_PI.clone()
    before = [loss_on(specialist, task) for task in (1, 3)]
    with specialist.trained_on(1):
        own, other = loss_on(specialist, 1), loss_on(specialist, 3)
        changed = (specialist.table.weights_PI != rows_PI).any(dim=1).nonzero()[:, 0].tolist()
    assert own < 0.7 * before[0]
    assert other != before[1]
    assert set(changed) <= set(range(*puzzle_set.starts[1:3].tolist())), "the ID rows of this task alone"
    assert changed
    assert [loss_on(specialist, task) for task in (1, 3)] == before
    assert torch.equal(specialist.table.weights_PI, rows_PI)
    for name, tensor in specialist.predictor.model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_only_its_own_demonstrations_are_trained_on(puzzle_set: PuzzleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    specialist, seen, step = make_specialist(make_trained(puzzle_set), puzzle_set), [], Learner.step

    def patched(learner: Learner, offered: Any) -> StepResult:
        seen.append((offered.puzzles_B.tolist(), int((offered.labels_BS > 0).any(1).sum())))
        return step(learner, offered)

    monkeypatch.setattr(Learner, "step", patched)
    with specialist.trained_on(2):
        pass
    first, end = puzzle_set.starts[2:4].tolist()
    assert len(seen) == STEPS
    for puzzles, labelled in seen:
        assert set(puzzles) <= set(range(first, end))
        assert labelled == len(puzzles) == 6, "a test input has no labels"
    assert len({puzzle for puzzles, _ in seen for puzzle in puzzles}) > 2, "under several augmentations"


def test_no_more_slots_than_examples(puzzle_set: PuzzleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    specialist, sizes, step = make_specialist(make_trained(puzzle_set, batch_size=500), puzzle_set), [], Learner.step

    def patched(learner: Learner, offered: Any) -> StepResult:
        sizes.append(len(offered))
        return step(learner, offered)

    monkeypatch.setattr(Learner, "step", patched)
    with specialist.trained_on(2):
        pass
    puzzles = int(puzzle_set.starts[3] - puzzle_set.starts[2])
    assert set(sizes) == {puzzles * len(puzzle_set.tasks[2].demonstrations)}


def test_the_schedule_is_cut_to_the_steps_of_a_task(puzzle_set: PuzzleSet) -> None:
    chosen = {"task_steps": 40, "curriculum": [[0.5, 1, 2]], "ids_only": 0.3, "warmup": 2000, "average": 0.999}
    train = one_task_config(build_config(make_trained(puzzle_set, **chosen).config)).train
    assert (train.steps, train.warmup, train.curriculum, train.ids_only, train.average) == (40, 4, (), 0, None)
    assert one_task_config(build_config(make_trained(puzzle_set, warmup=0).config)).train.warmup == 0


# Answers.


def test_answers_are_other_ones_than_the_shared_weights_give(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path
) -> None:
    made, trained = read_predictions(plain), make_trained(puzzle_set)
    shared = predict(trained, puzzle_set, PredictSettings(second_pass=False), tmp_path / "shared", Notes())
    assert made.metadata["sources"] == shared.metadata["sources"]
    for task in puzzle_set.tasks:
        own, other = answers_of(made, task.id), answers_of(shared, task.id)
        assert own["augmentation"] == other["augmentation"]
        assert own["test"] == other["test"]
        assert not set(own["halt_logit"]) & set(other["halt_logit"])
    assert made.recursions.keys() == shared.recursions.keys()


@pytest.mark.parametrize("settings", [{}, {"augmentations": 2, "record": "all"}])
def test_a_task_alone_is_answered_as_among_others(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """In whatever order they come, some were trained on before it."""
    chosen, trained = PredictSettings(**settings), make_trained(puzzle_set)
    many = (
        train_and_predict_tasks(trained, puzzle_set, chosen, tmp_path / "many", Notes())
        if settings
        else read_predictions(plain)
    )
    for task in puzzle_set.tasks:
        write_puzzle_set(make_set(7, tasks=(task.id,)), tmp_path / task.id)
        alone = open_puzzle_set(tmp_path / task.id)
        one = train_and_predict_tasks(trained, alone, chosen, tmp_path / f"{task.id} alone", Notes())
        assert answers_of(one, task.id) == answers_of(many, task.id)


def test_without_steps_the_answers_are_those_of_the_shared_weights(puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    trained, settings = (
        make_trained(puzzle_set, task_steps=0),
        PredictSettings(second_pass=False, trajectories=2, noise=0.1),
    )
    own = train_and_predict_tasks(trained, puzzle_set, settings, tmp_path / "own", Notes())
    shared = predict(trained, puzzle_set, settings, tmp_path / "shared", Notes())
    for task in puzzle_set.tasks:
        ours, theirs = answers_of(own, task.id), answers_of(shared, task.id)
        assert ours.pop("halt_logit") == pytest.approx(theirs.pop("halt_logit"), abs=1e-5)
        assert ours.pop("log_prob") == pytest.approx(theirs.pop("log_prob"), abs=1e-4)
        assert ours == theirs


def test_a_task_whose_training_breaks_is_answered_by_the_shared_weights(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, broken, notes = Learner.step, set(range(*puzzle_set.starts[1:3].tolist())), Notes()

    def patched(learner: Learner, offered: Any) -> StepResult:
        result = step(learner, offered)
        if learner.steps == 3 and set(offered.puzzles_B.tolist()) <= broken:
            assert learner.carry is not None
            raise NotFiniteError(3, learner.carry)
        return result

    shared = predict(make_trained(puzzle_set), puzzle_set, PredictSettings(second_pass=False), tmp_path / "s", Notes())
    monkeypatch.setattr(Learner, "step", patched)
    made = train_and_predict_tasks(make_trained(puzzle_set), puzzle_set, ONCE, tmp_path / "out", notes)
    task, other = puzzle_set.tasks[1].id, puzzle_set.tasks[2].id
    assert notes.said(
        f"task {task}: the loss or a gradient of step 3 is not finite; it is predicted with the checkpoint"
    )
    assert answers_of(made, task)["halt_logit"] == pytest.approx(answers_of(shared, task)["halt_logit"], abs=1e-5)
    assert answers_of(made, other) == answers_of(read_predictions(plain), other)


def test_a_failure_of_the_compiler_says_what_to_do(
    puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FailOnRecompileLimitHit("one graph too many")

    monkeypatch.setattr(Learner, "step", fail)
    with pytest.raises(CompilationError, match="one graph too many"):
        train_and_predict_tasks(make_trained(puzzle_set), puzzle_set, ONCE, tmp_path / "out", Notes())


# What is kept.


@pytest.fixture
def trained_tasks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tasks, by number, that are trained on from now on."""
    train, found = TaskTrainer._train, []

    def patched(specialist: TaskTrainer, task: int, *rest: Any) -> None:
        found.append(task)
        train(specialist, task, *rest)

    monkeypatch.setattr(TaskTrainer, "_train", patched)
    return found


def test_the_cheapest_tasks_come_first_and_a_killed_stage_makes_only_what_is_missing(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_tasks: list[int]
) -> None:
    trained, notes = make_trained(puzzle_set), Notes()
    with monkeypatch.context() as patch:
        crash_after(3, patch)
        with pytest.raises(Crash):
            train_and_predict_tasks(trained, puzzle_set, ONCE, tmp_path / "out", Notes())
    begun = trained_tasks.copy()
    train_and_predict_tasks(trained, puzzle_set, ONCE, tmp_path / "out", notes)
    assert notes.said("3 parts were made before")
    assert trained_tasks[len(begun) :][0] == begun[-1], "the one that was not written is trained on again"
    assert sorted([*begun[:-1], *trained_tasks[len(begun) :]]) == list(range(5))
    same_files(tmp_path / "out", plain)
    assert not (tmp_path / "out.parts").exists()
    questions = Workload(puzzle_set, "task")
    widths = questions.examples.widths(puzzle_set.starts[[*begun[:-1], *trained_tasks[len(begun) :]]]).tolist()
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_what_decides_the_answers_is_told_apart(
    puzzle_set: PuzzleSet, plain: Path, tmp_path: Path, trained_tasks: list[int]
) -> None:
    def made_again(trained: Checkpoint, **settings: Any) -> bool:
        trained_tasks.clear()
        train_and_predict_tasks(trained, puzzle_set, PredictSettings(**settings), tmp_path / "out", Notes())
        return bool(trained_tasks)

    trained = make_trained(puzzle_set)
    assert made_again(trained)
    assert not made_again(make_trained(puzzle_set, log_every=7, average=0.5), second_pass=False, batch_size=1)
    assert made_again(make_trained(puzzle_set, task_steps=STEPS + 1))
    assert made_again(make_trained(puzzle_set, id_lr=0.1))
    assert made_again(replace(trained, config=trained.config | {"seed": 1}))
    predict(trained, puzzle_set, ONCE, tmp_path / "out", notes := Notes())
    assert not notes.said("already made"), "nor are they those of the shared weights"


TWO = """
import sys
from pathlib import Path
from augment import open_puzzle_set
from pipeline.checkpoints.checkpoint import load_checkpoint
from pipeline.config.run_config import PredictSettings
from pipeline.runtime.distributed import leave_process_group
from pipeline.runtime.run_folder import Console
from pipeline.prediction.test_time_training import train_and_predict_tasks
folder = Path(sys.argv[1])
trained, puzzle_set = load_checkpoint(folder / "checkpoint"), open_puzzle_set(folder / "set")
train_and_predict_tasks(trained, puzzle_set, PredictSettings(), folder / "out", Console())
leave_process_group()
"""


def test_two_processes_give_the_identical_answers(puzzle_set: PuzzleSet, plain: Path, tmp_path: Path) -> None:
    write_puzzle_set(puzzle_set, tmp_path / "set")
    save_checkpoint(tmp_path / "checkpoint", make_trained(puzzle_set))
    (tmp_path / "two.py").write_text(TWO)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", tmp_path / "two.py", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    same_files(tmp_path / "out", plain)


def test_the_time_needed_is_that_of_every_step(puzzle_set: PuzzleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that a training step moves on by as many seconds as it has positions."""
    config, clock = build_config(make_trained(puzzle_set, batch_size=500).config), [0.0]
    step, positions = Learner.step, []

    def patched(learner: Learner, offered: Any) -> StepResult:
        positions.append(len(offered) * (offered.cells_BS.shape[1] + MODEL.id_slots))
        clock[0] += positions[-1]
        return step(learner, offered)

    monkeypatch.setattr(Learner, "step", patched)
    monkeypatch.setattr("pipeline.prediction.test_time_training.time.monotonic", lambda: clock[0])
    expected = estimate_test_time_training(config, puzzle_set, join_process_group())
    positions.clear()
    specialist = make_specialist(make_trained(puzzle_set, batch_size=500), puzzle_set)
    for task in range(len(puzzle_set.tasks)):
        with specialist.trained_on(task):
            pass
    assert expected == pytest.approx(1.2 * sum(positions))
    without = build_config(make_trained(puzzle_set, task_steps=0).config)
    assert estimate_test_time_training(without, puzzle_set, join_process_group()) == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_model_is_timed_as_it_will_train(
    puzzle_set: PuzzleSet, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """On CUDA it is compiled. A step takes 40 s the first time a width is seen, else 5 s and one for each position."""
    config, clock = build_config(make_trained(puzzle_set, batch_size=500).config), [0.0]
    questions, compiled, seen = Workload(puzzle_set, "task"), [], {}
    step = Learner.step

    def patched(learner: Learner, offered: Any) -> StepResult:
        width = offered.cells_BS.shape[1]
        positions = len(offered) * (width + MODEL.id_slots)
        clock[0] += 5 + positions if width in seen else 40
        seen.setdefault(width, positions)
        assert seen[width] >= positions, "the largest batch of a width is timed"
        return step(learner, offered)

    monkeypatch.setattr(Learner, "step", patched)
    monkeypatch.setattr("pipeline.checkpoints.load_model.find_compile_error", lambda model: None)
    monkeypatch.setattr(RecursiveModel, "compile_blocks", lambda model: compiled.append(model))
    monkeypatch.setattr("pipeline.prediction.test_time_training.time.monotonic", lambda: clock[0])
    with pretended_gpu() if device == "cuda" else nullcontext():
        processes: Any = SimpleNamespace(device=torch.device(device), count=2)
        expected = estimate_test_time_training(config, puzzle_set, processes)
    specialist = make_specialist(make_trained(puzzle_set, batch_size=500), puzzle_set)
    asked = questions.ask_by_task()
    sizes = [(questions.examples.widths(rows.puzzles[:1])[0], specialist._batch_positions(rows)) for rows in asked]
    largest = max(size for _, size in sizes)
    most = {width: seen[width] if device == "cuda" else largest for width, _ in sizes}
    assert len(compiled) == (device == "cuda")
    assert seen.keys() == (most.keys() if device == "cuda" else {max(most)})
    seconds = sum(STEPS * size * (5 + most[width]) / most[width] for width, size in sizes)
    first = 40 * len(most) if device == "cuda" else 0
    assert expected == pytest.approx(first + 1.2 * seconds / 2)


def test_solve_answers_each_task_by_weights_of_its_own(tmp_path: Path) -> None:
    chosen = ("solve", "--recipe", "smoke", "--set", "train.steps=2", "--set", "train.task_steps=2", "--budget", "5m")
    assert run(*chosen, "--run-dir", tmp_path / "run") == 0
    made = read_predictions(tmp_path / "run" / "predictions")
    assert made.metadata["made_from"]["each_task"]["task_steps"] == 2
    assert (tmp_path / "run" / "submission.json").exists()
