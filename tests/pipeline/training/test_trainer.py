"""Training: which examples reach the learner, by settings."""

from pathlib import Path

import pytest

from augment import PuzzleSet, Selection, SourcedTasks, build_puzzle_set, load_tasks
from pipeline.config.run_config import ConfigError, TrainSettings, override
from pipeline.recipes.small import smoke
from pipeline.training.batch_source import next_batch
from solver.data.batches import PuzzleDataset
from solver.data.sampler import Sampler
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.learner import Learner, LearnerConfig
from tests.helpers.commands import SHORT, run


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    names = ("arc-agi-1/training", "arc-agi-1/evaluation")
    sources = [SourcedTasks(name, "train", load_tasks(name, Selection(max_side=6, limit=3))) for name in names]
    return build_puzzle_set(sources, 2, seed=0, board_side=7)


@pytest.mark.parametrize(("feed", "sizes"), [("all", [4, 4, 4, 4]), ("halted", [4, 0, 4, 0])])
def test_the_feed_decides_how_many_examples_are_offered(puzzle_set: PuzzleSet, feed: str, sizes: list[int]) -> None:
    examples, settings = (
        PuzzleDataset(puzzle_set, "full"),
        TrainSettings.model_validate({"batch_size": 4, "feed": feed}),
    )
    model = ModelConfig(hidden=16, heads=2, board_side=7, h_cycles=1, l_cycles=1, max_steps=2, exploration=0)
    learner = Learner(RecursiveModel(model), PuzzleEmbedding(len(puzzle_set), model.id_length), LearnerConfig())
    sampler = examples.sampler(seed=0, keep_rest=feed == "halted")
    for size in sizes:
        batch = next_batch(examples, sampler, learner, settings)
        learner.step(batch)
        assert len(batch) == size, "no slot halts before the last of its two steps"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.feed", "some", "train.feed: Input should be 'all' or 'halted'"),
        ("train.source_weights", [["a", -1]], "greater than or equal to 0"),
        ("train.source_weights", [["a", float("inf")]], "finite number"),
        ("train.source_weights", [["a", float("nan")]], "finite number|greater than or equal to 0"),
        ("train.source_weights", [["a", 1], ["a", 2]], "a is weighted twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(smoke(), {name: value})


def test_source_weights_are_read_from_json() -> None:
    config = override(smoke(), {"train.source_weights": [["arc-agi-1/training", 0.5]]})
    assert config.train.source_weights == (("arc-agi-1/training", 0.5),)
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_a_source_with_weight_0_is_left_out(puzzle_set: PuzzleSet) -> None:
    sampler = PuzzleDataset(puzzle_set).sampler(seed=0, source_weights=[("arc-agi-1/training", 0)])
    puzzles, _ = sampler.next_batch(200)
    assert {puzzle_set.sources[puzzle_set.task_of(puzzle)] for puzzle in puzzles} == {"arc-agi-1/evaluation"}


@pytest.mark.parametrize("feed", ["all", "halted"])
def test_training_samples_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str) -> None:
    asked, make = [], PuzzleDataset.sampler

    def record(examples: PuzzleDataset, *arguments: object, **options: object) -> Sampler:
        asked.append((arguments, options))
        return make(examples, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PuzzleDataset, "sampler", record)
    weights = '[["arc-agi-1/training", 2.5]]'
    settings = (*SHORT, "--set", "seed=3", "--set", f"train.feed={feed}", "--set", f"train.source_weights={weights}")
    assert run("solve", "--recipe", "smoke", *settings, "--run-dir", tmp_path / "run") == 0
    assert asked == [((3, (("arc-agi-1/training", 2.5),), feed == "halted", "tasks"), {})]
