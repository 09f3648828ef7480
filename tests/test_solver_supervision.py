from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from augment import Selection, SourcedTasks, build_puzzle_set, load_tasks
from solver import Batch, Carry, IdTable, Learner, LearnerConfig, ModelConfig, RecursiveModel, predict_steps
from solver.batches import Examples
from solver.supervision import halting, minimum_steps, refill, start_carry

CONFIG = ModelConfig(
    hidden=16,
    heads=2,
    board_side=4,
    id_slots=2,
    h_cycles=1,
    l_cycles=1,
    max_steps=3,
    exploration=0.0,
    canvas="task",
)


def make_model(config: ModelConfig = CONFIG) -> RecursiveModel:
    torch.manual_seed(0)
    return RecursiveModel(config)


def make_batch(widths: list[int], first_puzzle: int = 0) -> Batch:
    """Row i has widths[i] cells and asks for its own token; the batch is as wide as its widest row."""
    cells_BS = torch.arange(max(widths)).repeat(len(widths), 1)
    used_BS = cells_BS < torch.tensor(widths)[:, None]
    puzzles_B = first_puzzle + torch.arange(len(widths))
    tokens_BS = ((puzzles_B[:, None] + cells_BS) % 11 + 1) * used_BS
    return Batch(tokens_BS, tokens_BS, cells_BS.masked_fill(~used_BS, -1), puzzles_B)


def make_learner(model: RecursiveModel, rows: int = 8, **settings: object) -> Learner:
    config = replace(LearnerConfig(lr=1e-3, warmup=0, weight_decay=0.0, total_steps=300), **settings)
    return Learner(model, IdTable(rows, model.config.id_length), config)


def test_halted_slots_take_the_row_of_their_own_index() -> None:
    model = make_model()
    first = refill(start_carry(model, 3), make_batch([4, 4, 4]), model)
    assert first.batch.puzzles_B.tolist() == [0, 1, 2]
    worked = replace(first.latents, z_h=first.latents.z_h + 1, z_l=first.latents.z_l - 1)
    carry = Carry(worked, first.batch, torch.tensor([2, 1, 3]), torch.tensor([False, True, False]))
    second = refill(carry, make_batch([4, 4, 4], first_puzzle=5), model)
    assert second.batch.puzzles_B.tolist() == [0, 6, 2]
    assert second.steps_B.tolist() == [2, 0, 3]
    assert second.batch.tokens_BS[1].tolist() == [7, 8, 9, 10]
    assert second.batch.labels_BS[2].tolist() == [3, 4, 5, 6]
    assert_close(second.latents.z_h[[0, 2]], worked.z_h[[0, 2]])
    assert_close(second.latents.z_l[1], model.l_start.expand(6, 16))


def test_the_width_is_the_fixed_one_that_holds_the_widest_row_in_the_slots() -> None:
    model = make_model(replace(CONFIG, board_side=30))
    carry = refill(start_carry(model, 2), make_batch([121, 2]), model)
    carry = replace(carry, halted_B=torch.tensor([True, False]))
    narrow = refill(carry, make_batch([3, 196], first_puzzle=2), model)
    assert [row[row >= 0].tolist() for row in narrow.batch.cells_BS] == [[0, 1, 2], [0, 1]]
    assert narrow.batch.cells_BS.shape == (2, 36)
    assert narrow.latents.z_h.shape == (2, 2 + 36, 16)
    wide = refill(replace(narrow, halted_B=torch.tensor([False, True])), make_batch([1, 121]), model)
    assert [len(row[row >= 0]) for row in wide.batch.cells_BS] == [3, 121]
    assert wide.batch.cells_BS.shape == (2, 121)
    assert wide.batch.tokens_BS[0].tolist() == [3, 4, 5] + [0] * 118


def test_examples_for_halted_slots_go_to_them_in_order() -> None:
    model = make_model()
    first = refill(start_carry(model, 4), make_batch([4] * 4), model)
    worked = replace(first.latents, z_h=first.latents.z_h + 1, z_l=first.latents.z_l - 1)
    halted_B = torch.tensor([False, True, False, True])
    carry = replace(first, latents=worked, steps_B=torch.tensor([2, 1, 1, 3]), halted_B=halted_B)
    second = refill(carry, make_batch([3, 4], first_puzzle=5), model)
    assert second.batch.puzzles_B.tolist() == [0, 5, 2, 6]
    assert second.steps_B.tolist() == [2, 0, 1, 0]
    assert second.batch.tokens_BS.tolist() == [[1, 2, 3, 4], [6, 7, 8, 0], [3, 4, 5, 6], [7, 8, 9, 10]]
    assert second.batch.cells_BS[1].tolist() == [0, 1, 2, -1]
    assert_close(second.latents.z_h[[0, 2]], worked.z_h[[0, 2]])
    assert_close(second.latents.z_l[[1, 3]], model.l_start.expand(2, 6, 16))
    running = replace(second, halted_B=torch.zeros(4, dtype=torch.bool))
    nothing = make_batch([4])
    nothing = Batch(*(getattr(nothing, name)[:0] for name in nothing.__dataclass_fields__))
    assert refill(running, nothing, model).batch.puzzles_B.tolist() == [0, 5, 2, 6]


def test_a_batch_of_another_size_is_refused() -> None:
    model = make_model()
    carry = replace(start_carry(model, 4), halted_B=torch.tensor([True, False, True, False]))
    with pytest.raises(ValueError, match="3 examples offered to 4 batch slots, 2 of them halted"):
        refill(carry, make_batch([4, 4, 4]), model)


def test_where_only_halted_slots_are_fed_every_example_is_trained_on() -> None:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=6))
    examples = Examples(build_puzzle_set([SourcedTasks("a", "train", tasks)], 3, seed=0, board_side=4), "full")
    model = make_model(replace(CONFIG, exploration=1.0, max_steps=4, canvas="full"))
    with torch.no_grad():
        model.halt_head.bias.fill_(5.0)
    learner, sampler = make_learner(model, rows=24), examples.sampler(seed=0, keep_rest=True)
    entered, sizes = [], []
    for _ in range(40):
        sizes.append(learner.count_free(5))
        learner.step(examples.training_batch(sampler, sizes[-1], shift=False))
        assert learner.carry is not None
        entered.append(learner.carry.batch.tokens_BS[learner.carry.steps_B == 1])
    assert sizes[0] == 5
    assert set(sizes) >= {0, 1, 2, 5}, "slots halt at different steps"
    offered = examples.render(*examples.sampler(seed=0, keep_rest=True).next_batch(sum(sizes)))
    assert torch.equal(torch.cat(entered), offered.tokens_BS)


def test_halting_by_hand() -> None:
    steps_B = torch.tensor([1, 1, 2, 4, 4])
    halt_B = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0])
    minimum_B = torch.tensor([0, 0, 3, 4, 4])
    assert halting(steps_B, halt_B, minimum_B, 4).tolist() == [False, True, False, True, True]


def test_exploration_only_prolongs() -> None:
    steps_B, halt_B = torch.arange(1, 5).repeat(100), torch.randn(400)
    without = halting(steps_B, halt_B, torch.zeros(400, dtype=torch.int64), 4)
    explored = halting(steps_B, halt_B, minimum_steps(0, 0, 400, 4, 0.5), 4)
    assert not (explored & ~without).any()
    assert (without & ~explored).any()
    assert explored[steps_B == 4].all()


def test_minimum_steps_are_drawn_with_their_probability_between_2_and_the_most() -> None:
    minimum_B = minimum_steps(seed=3, step=7, batch_size=20_000, max_steps=5, probability=0.1)
    explored = minimum_B[minimum_B > 0]
    assert len(explored) == pytest.approx(2000, rel=0.1)
    assert explored.unique().tolist() == [2, 3, 4, 5]
    assert minimum_B.equal(minimum_steps(3, 7, 20_000, 5, 0.1))
    assert not minimum_B.equal(minimum_steps(3, 8, 20_000, 5, 0.1))
    assert not minimum_steps(3, 7, 100, 5, 0.0).any()
    assert minimum_steps(3, 7, 100, 1, 1.0).max() == 1


def test_slots_run_to_the_last_step_when_nothing_halts_them() -> None:
    """The halting logit starts at -5, so the offered batches of steps 2 and 3 are discarded."""
    learner = make_learner(make_model())
    results = [learner.step(make_batch([4, 3], first_puzzle=2 * number)) for number in range(4)]
    assert [result.puzzles_B.tolist() for result in results] == [[0, 1], [0, 1], [0, 1], [6, 7]]
    assert [result.steps_B.tolist() for result in results] == [[1, 1], [2, 2], [3, 3], [1, 1]]
    assert [result.halted_B.tolist() for result in results] == [
        [False] * 2,
        [False] * 2,
        [True] * 2,
        [False] * 2,
    ]


def test_a_positive_halting_logit_ends_a_slot_early_unless_it_explores() -> None:
    for exploration, expected in ((0.0, [True] * 8), (1.0, [False] * 8)):
        model = make_model(replace(CONFIG, exploration=exploration, max_steps=16))
        with torch.no_grad():
            model.halt_head.bias.fill_(5.0)
        assert make_learner(model).step(make_batch([4] * 8)).halted_B.tolist() == expected


def test_the_latents_are_carried_from_step_to_step() -> None:
    """With rates of 0, training steps on one batch repeat the steps of prediction."""
    model = make_model()
    learner = make_learner(model, lr=0.0, id_lr=0.0)
    batch = make_batch([4, 2])
    expected = [output.logits_BCV for output in predict_steps(model, learner.table, batch)]
    assert len(expected) == 3
    for logits_BCV in expected:
        assert_close(learner.step(batch).output.logits_BCV, logits_BCV)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_the_loss_is_shared_by_all_slots_however_many_are_fed() -> None:
    gradients = []
    for fed in (1, 3):
        learner = make_learner(make_model(), lr=0.0, id_lr=0.0)
        learner.step(make_batch([4, 4, 4]))
        assert learner.carry is not None
        learner.carry = replace(learner.carry, halted_B=torch.tensor([False, True, False]))
        offered = make_batch([4] * 3, first_puzzle=3)
        rows = slice(1, 2) if fed == 1 else slice(0, 3)
        learner.step(Batch(*(getattr(offered, name)[rows] for name in offered.__dataclass_fields__)))
        gradients.append([parameter.grad for parameter in learner.model.parameters()])
    assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_gradients_are_those_of_the_loss_over_the_batch() -> None:
    """Four copies of an example have the gradient of one."""
    gradients = []
    for copies in (1, 4):
        learner = make_learner(make_model())
        one = make_batch([4])
        learner.step(Batch(*(getattr(one, name).repeat_interleave(copies, 0) for name in one.__dataclass_fields__)))
        gradients.append([parameter.grad for parameter in learner.model.parameters()])
    assert_close(gradients[0], gradients[1])


def test_it_learns_to_repeat_its_input_and_to_halt() -> None:
    torch.set_num_threads(1)
    learner = make_learner(make_model(replace(CONFIG, hidden=32)), lr=3e-3, min_ratio=0.1, ema_decay=0.9)
    batch = make_batch([4, 3, 2, 4])
    for _ in range(200):
        learner.step(batch)
    assert learner.average is not None
    with learner.average.averaged():
        *_, output = predict_steps(learner.model, learner.table, batch, steps=5)
    used_BS = batch.labels_BS > 0
    right = (output.logits_BCV.argmax(-1) == batch.labels_BS)[used_BS].float().mean()
    assert right > 0.8, "chance is 0.08"
    assert output.halt_B.mean() > 0, "it starts at -5"


def test_both_rates_follow_the_schedule() -> None:
    learner = make_learner(make_model(), warmup=4, id_lr=0.8, id_weight_decay=0.0)
    learner.step(make_batch([4, 4]))
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / 4)
    moved = learner.table.weights_PI[:2].abs()
    assert_close(moved[moved > 0].unique(), torch.tensor([0.2]))


def test_no_average_is_kept_when_none_is_asked_for() -> None:
    learner = make_learner(make_model(), ema_decay=None)
    learner.step(make_batch([4]))
    assert learner.average is None
