"""Batches that are drawn ahead are those that are drawn when they are asked for, also after a resume."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from augment import Selection, SourcedTasks, build_puzzle_set, load_tasks
from pipeline.training import trainer
from pipeline.training.batch_source import BatchSource, copy_small
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.data.sampler import Sampler
from solver.training.learner import Learner
from tests.helpers.commands import run
from tests.helpers.resume import STEPS, TRAIN, Crash, after, crash, same_run

CPU = torch.device("cpu")
SIZE = 5


@pytest.fixture(scope="module")
def examples() -> PuzzleDataset:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=5, limit=4))
    return PuzzleDataset(build_puzzle_set([SourcedTasks("a", "train", tasks)], 3, seed=0, board_side=7))


def make_source(examples: PuzzleDataset, ahead: bool) -> tuple[BatchSource, Sampler]:
    sampler = examples.sampler(seed=1)
    return BatchSource(lambda: examples.training_batch(sampler, SIZE), sampler, CPU, ahead), sampler


def same(one: Batch, other: Batch) -> bool:
    tensors = ((getattr(one, name), getattr(other, name)) for name in Batch.__dataclass_fields__)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors)


def test_a_batch_drawn_ahead_is_the_next_one_and_does_not_move_the_position(examples: PuzzleDataset) -> None:
    ahead, _ = make_source(examples, ahead=True)
    asked, _ = make_source(examples, ahead=False)
    assert ahead.position == asked.position
    for _ in range(7):
        assert same(ahead.take(), asked.take())
        assert ahead.position == asked.position


def test_a_sampler_resumes_with_the_batch_that_was_drawn_ahead(examples: PuzzleDataset) -> None:
    first, _ = make_source(examples, ahead=True)
    for _ in range(3):
        first.take()
    resumed, sampler = make_source(examples, ahead=True)
    sampler.resume(first.position)
    assert all(same(first.take(), resumed.take()) for _ in range(4))


def test_an_error_of_the_thread_is_raised_where_the_batch_is_taken(examples: PuzzleDataset) -> None:
    def fail() -> Batch:
        raise ValueError("no such task")

    source = BatchSource(fail, examples.sampler(seed=0), CPU, ahead=True)
    with pytest.raises(ValueError, match="no such task"):
        source.take()


@pytest.mark.parametrize("side", [7, 255])
def test_small_integers_hold_every_batch(side: int) -> None:
    cells = torch.tensor([[-1, 0, side**2 - 1]])
    tokens = torch.tensor([[0, 11, 5]])
    batch = Batch(tokens, tokens.flip(1), cells, torch.tensor([2**40]), torch.tensor([7]))
    assert same(copy_small(batch, CPU), batch)


def train(puzzles: Path, folder: Path, step: Callable | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        if step is not None:
            patch.setattr(Learner, "step", step)
        assert run("train", "--puzzles", puzzles, *TRAIN, *STEPS, "--run-dir", folder) == 0


def test_training_with_batches_drawn_ahead_gives_the_same_bits_also_after_a_crash(
    puzzles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(puzzles, tmp_path / "asked", None, monkeypatch)

    def draw_ahead(draw: Callable[[], Batch], sampler: Sampler, device: torch.device, ahead: bool) -> BatchSource:
        return BatchSource(draw, sampler, device, ahead=True)

    monkeypatch.setattr(trainer, "BatchSource", draw_ahead)
    with pytest.raises(Crash):
        train(puzzles, tmp_path / "ahead", after(6, crash), monkeypatch)
    train(puzzles, tmp_path / "ahead", None, monkeypatch)
    same_run(tmp_path / "asked", tmp_path / "ahead")
