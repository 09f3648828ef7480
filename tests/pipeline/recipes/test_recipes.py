"""The recipes for long runs: their docstrings agree with the settings, and their settings train."""

import pytest
import torch

from augment import Selection, SourcedTasks, load_tasks
from pipeline.checkpoints.id_table import new_table
from pipeline.config.run_config import RunConfig, override
from pipeline.data.build import make_puzzle_set
from pipeline.recipes.registry import recipe
from pipeline.training.setup import learner_config
from solver.data.batches import PuzzleDataset
from solver.model.model import RecursiveModel
from solver.training.learner import Learner

LONG = ("arc1", "arc2", "arc1_fast", "arc1_fast_trm", "arc1_fast_urm", "arc1_fast_gram")
SHRUNK = {
    "puzzles.augmentations": 2,
    "model.hidden": 32,
    "model.heads": 2,
    "model.expansion": 1,
    "train.batch_size": 2,
    "train.steps": 2,
    "train.warmup": 0,
}


def small_sources(config: RunConfig) -> list[SourcedTasks]:
    """Two tasks of each source."""
    few = Selection(limit=2)
    roles = {config.source: "scored"} | dict.fromkeys(config.train_sources, "train")
    return [SourcedTasks(name, role, load_tasks(name, few)) for name, role in roles.items()]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*LONG, "kaggle_backbone"])
def test_a_long_recipe_trains_once_it_is_made_small(name: str) -> None:
    config = override(recipe(name), SHRUNK)
    puzzle_set = make_puzzle_set(small_sources(config), config.puzzles, config.seed, config.model.board_side)
    examples = PuzzleDataset(puzzle_set, config.model.canvas, ids=config.puzzles.ids, redraw=not config.model.symbols)
    torch.manual_seed(0)
    model, table = RecursiveModel(config.model), new_table(examples.row_keys, config.model)
    learner, sampler = Learner(model, table, learner_config(config)), examples.sampler(config.seed)
    before = {label: parameter.clone() for label, parameter in model.named_parameters()}
    for _ in range(config.train.steps):
        batch = examples.training_batch(sampler, config.train.batch_size, config.train.shift)
        assert learner.step(batch).losses.total.isfinite()
    assert all(not torch.equal(before[label], parameter) for label, parameter in model.named_parameters())
    assert table.weights_PI.any()


@pytest.mark.parametrize("name", LONG)
def test_a_long_recipe_predicts_public_evaluation_and_trains_beside_it(name: str) -> None:
    config = recipe(name)
    benchmark = "arc-agi-2" if name == "arc2" else "arc-agi-1"
    assert config.source == f"{benchmark}/evaluation"
    assert config.train_sources == (f"{benchmark}/training", "concept")


ARC1_PAIRS, BACKBONE_PAIRS = 3985, 5215
"""Number of training pairs: ARC-AGI-1 with ConceptARC, and ARC-AGI-2's training set with ConceptARC."""


def test_recipes_visit_pairs_as_often_as_their_docstrings_say() -> None:
    visits = {}
    for name, pairs in (("arc1_fast_trm", ARC1_PAIRS), ("arc1_fast", ARC1_PAIRS), ("kaggle_backbone", BACKBONE_PAIRS)):
        config = recipe(name)
        visits[name] = config.train.steps * config.train.batch_size / pairs
    assert visits == pytest.approx({"arc1_fast_trm": 30_800, "arc1_fast": 3_850, "kaggle_backbone": 3_830}, rel=0.005)


def test_the_small_backbone_has_the_network_of_the_recipe_it_is_compared_with_and_leaves_its_tasks_unseen() -> None:
    backbone, scratch = recipe("kaggle_backbone_small"), recipe("cpu_trm")
    assert (backbone.model, backbone.source, backbone.selection) == (scratch.model, scratch.source, scratch.selection)


def test_cpu_hour_is_of_the_tasks_that_its_docstring_says() -> None:
    config = recipe("cpu_hour")
    tasks = load_tasks(config.source, config.selection.selection())
    assert len(tasks) == 78
    assert sum(len(task.tests) for task in tasks) == 89
    assert config.train_sources == ()
    assert config.ensemble == 2
