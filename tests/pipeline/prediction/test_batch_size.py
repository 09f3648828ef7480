"""Training that fits its schedule to the time, and training in several windows."""

from pathlib import Path

import pytest

from augment import PuzzleSet, Selection, SourcedTasks, build_puzzle_set, load_tasks
from pipeline.checkpoints.manager import CheckpointManager
from pipeline.config.run_config import RunConfig, override
from pipeline.recipes.small import smoke
from pipeline.runtime.run_folder import RunFolder, read_metrics
from pipeline.time_budget import Budget
from pipeline.training.train import train
from pipeline.training.trainer import FIRST_PACE, TrainingWindow
from solver.model.model import RecursiveModel
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.learner import Learner, LearnerConfig
from tests.helpers.untrained import MODEL


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=4))
    return build_puzzle_set([SourcedTasks("arc-agi-1/training", "scored", tasks)], 2, seed=0)


@pytest.fixture
def config() -> RunConfig:
    given = {
        "train.fit": True,
        "train.steps": 100_000,
        "train.warmup": 1000,
        "train.log_every": 2,
        "train.min_ratio": 0.1,
    }
    return override(smoke(), given)


def planned(run: RunFolder) -> list[int]:
    return [line["planned_steps"] for line in read_metrics(run.path)]


def test_the_plan_is_what_fits(config: RunConfig, puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", config)
    made = train(config, puzzle_set, run, Budget(5.0)).step
    plans = planned(run)
    assert made > FIRST_PACE
    assert plans[-1] < 100_000
    assert 0.7 * made < plans[-1] < 1.4 * made, "the last plan says where training ends"


def test_later_stretches_count(config: RunConfig, puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", config)
    first = train(config, puzzle_set, run, Budget(3.0), window=TrainingWindow(later=27.0)).step
    assert planned(run)[-1] > 4 * first
    kept = CheckpointManager(run.checkpoints, {}, [], puzzle_set.seen, ()).newest()
    assert kept is not None
    assert kept.plain["learner"]["planned"] == planned(run)[-1]
    second = train(config, puzzle_set, run, Budget(2.0)).step
    assert second > first


def test_without_a_limit_the_steps_are_those_given(config: RunConfig, puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    config = override(config, {"train.steps": 12})
    run = RunFolder(tmp_path / "run", config)
    assert train(config, puzzle_set, run, Budget(None)).step == 12
    assert planned(run) == [12] * 6


def test_checkpoints_come_by_the_clock_too(config: RunConfig, puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    config = override(config, {"train.steps": 12, "train.checkpoint_every": 1000})
    run = RunFolder(tmp_path / "run", config)
    train(config, puzzle_set, run, Budget(None), window=TrainingWindow(save_every=0.0))
    assert [path.name for path in sorted(run.checkpoints.glob("step_*"))] == ["step_0000011", "step_0000012"]


def test_rates_follow_the_plan() -> None:
    config = LearnerConfig(warmup=1000, total_steps=100_000, min_ratio=0.1, lr=1.0)
    learner = Learner(RecursiveModel(MODEL), PuzzleEmbedding(2, MODEL.id_length), config)
    learner.plan_steps(200)
    assert learner._rate(20, 1.0) == pytest.approx(1.0, abs=0.03)
    assert learner._rate(200, 1.0) == pytest.approx(0.1)
    learner.plan_steps(50_000)
    assert learner._rate(20, 1.0) == pytest.approx(0.02), "the warm-up given is the longest"
    again = Learner(RecursiveModel(MODEL), PuzzleEmbedding(2, MODEL.id_length), config)
    again.load(learner.tensors(), [{}], learner.numbers())
    assert again.config == learner.config
