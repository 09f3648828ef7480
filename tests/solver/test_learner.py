"""Optimizer steps: data flow, carried latents, learning and saved state; in chunks, in processes, and on failures."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from augment import Selection, SourcedTasks, build_puzzle_set, load_tasks
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.training.deep_supervision import predict_steps
from solver.training.learner import Learner
from solver.training.process_group import ProcessGroup
from tests.helpers.small_model import CONFIG, gradients_of, make_batch, make_learner, make_model


def test_where_only_halted_slots_are_fed_every_example_is_trained_on() -> None:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=6))
    examples = PuzzleDataset(build_puzzle_set([SourcedTasks("a", "train", tasks)], 3, seed=0, board_side=4), "full")
    model = make_model(replace(CONFIG, exploration=1.0, max_steps=4, canvas="full"))
    with torch.no_grad():
        model.halt_head.bias.fill_(5.0)
    learner = make_learner(model, rows=24)
    sampler = examples.sampler(seed=0, keep_rest=True)
    inputs = []
    sizes = []
    for _ in range(40):
        sizes.append(learner.free_slots(5)[0])
        learner.step(examples.training_batch(sampler, sizes[-1], shift=False))
        assert learner.carry is not None
        inputs.append(learner.carry.batch.tokens_BS[learner.carry.steps_B == 1])
    assert sizes[0] == 5
    assert set(sizes) >= {0, 1, 2, 5}, "slots halt at different steps"
    offered = examples.render(*examples.sampler(seed=0, keep_rest=True).next_batch(sum(sizes)))
    assert torch.equal(torch.cat(inputs), offered.tokens_BS)


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
    """With learning rates of 0, optimizer steps on one batch repeat the supervision steps of prediction."""
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
    assert right > 0.8, "a random guess is right with probability 0.08"
    assert output.halt_B.mean() > 0, "it starts at -5"


def test_both_rates_follow_the_schedule() -> None:
    learner = make_learner(make_model(), warmup=4, id_lr=0.8, id_weight_decay=0.0)
    learner.step(make_batch([4, 4]))
    assert learner.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)
    changes = learner.table.weights_PI[:2].abs()
    assert_close(changes[changes > 0].unique(), torch.tensor([0.2]))


def test_no_average_is_kept_when_none_is_asked_for() -> None:
    learner = make_learner(make_model(), ema_decay=None)
    learner.step(make_batch([4]))
    assert learner.average is None


# Chunks, groups and precision: the result does not depend on which examples run together.


@pytest.mark.parametrize("optimizer", ["adam_atan2", "muon"])
def test_a_state_goes_on_bit_for_bit(optimizer: str) -> None:
    def fresh() -> Learner:
        model = make_model(replace(CONFIG, board_side=30, exploration=0.5, max_steps=4))
        return make_learner(model, rows=64, optimizer=optimizer, warmup=3)

    batches = [make_batch([36 + step, 2, 150, 9], first_puzzle=4 * step) for step in range(12)]
    straight = fresh()
    first = fresh()
    second = fresh()
    for batch in batches:
        straight.step(batch)
    for batch in batches[:5]:
        first.step(batch)
    second.load(copied(first.tensors()), [copied(first.slots())], json.loads(json.dumps(first.numbers())))
    for batch in batches[5:]:
        second.step(batch)
    assert_close(second.tensors(), straight.tensors(), rtol=0, atol=0)
    assert_close(second.slots(), straight.slots(), rtol=0, atol=0)
    assert second.numbers() == straight.numbers()


def test_what_memory_allowed_is_remembered_until_it_is_set_anew() -> None:
    limited = make_learner(make_model())
    limited.step(make_batch([4, 4]))
    limited.limit.most = 7
    for micro_batch, expected in ((None, 7), (3, 3 * 18)):
        learner = make_learner(make_model(), micro_batch=micro_batch)
        learner.load(limited.tensors(), [limited.slots()], limited.numbers())
        assert learner.limit.most == expected


def copied(tensors: dict) -> dict:
    return {name: copied(value) if isinstance(value, dict) else value.clone() for name, value in tensors.items()}


def test_a_run_goes_on_in_another_precision() -> None:
    """As when a run moves from a CPU to a GPU: the latents have the new precision after resuming."""
    first = make_learner(make_model())
    second = make_learner(make_model())
    first.step(make_batch([4, 3, 2]))
    second.model.precision = torch.bfloat16
    second.load(first.tensors(), [first.slots()], first.numbers())
    second.step(make_batch([4, 3, 2]))
    assert second.carry is not None
    assert second.carry.latents["z_h"].dtype == second.carry.latents["z_l"].dtype == torch.bfloat16


@pytest.mark.parametrize("sharing", [(1, 3), (3, 1), (2, 3)])
def test_slots_saved_by_some_processes_are_taken_up_by_others(sharing: tuple[int, int]) -> None:
    learner = make_learner(make_model(replace(CONFIG, board_side=30)), rows=8)
    learner.step(make_batch([36, 2, 150, 9, 700]))
    parts = [[learner.slots()]]
    for count in sharing:
        slots = []
        for index in range(count):
            other = make_learner(make_model(replace(CONFIG, board_side=30)), rows=8)
            other.processes = ProcessGroup()
            other.processes.index = index
            other.processes.count = count
            other.load(learner.tensors(), parts[-1], learner.numbers())
            slots.append(other.slots())
        assert [len(part["puzzles"]) for part in slots] == other.sizes
        parts.append(slots)
    last = make_learner(make_model(replace(CONFIG, board_side=30)), rows=8)
    last.load(learner.tensors(), parts[-1], learner.numbers())
    assert_close(last.slots(), learner.slots(), rtol=0, atol=0)


class Watch(TorchDispatchMode):
    """Records the size of the largest tensor that any operation allocates."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        arguments = {id(value) for value in (*args, *(kwargs or {}).values())}
        for value in results if isinstance(results, tuple | list) else (results,):
            if isinstance(value, torch.Tensor) and id(value) not in arguments and value._base is None:
                self.most = max(self.most, value.numel())
        return results


class Pretended(ProcessGroup):
    """One of two processes, the other of which sends the same values; records the sizes of the messages."""

    count = 2

    def __init__(self) -> None:
        self.sent: list[int] = []

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sent.append(tensor.numel())
        return tensor.mul_(2)

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.sent.append(tensor.numel())
        return [tensor, tensor]


def test_no_step_touches_or_sends_more_of_a_large_table_than_the_rows_in_the_batch() -> None:
    learner = make_learner(make_model(), rows=1_000_000)
    processes = Pretended()
    learner.processes = processes
    learner.step(make_batch([4, 4]))
    before = learner.table.weights_PI.clone()
    with Watch() as watch:
        learner.step(make_batch([4, 4]))
    weights = sum(parameter.numel() for parameter in learner.model.parameters())
    assert watch.most < 2 * weights < 100_000, "no allocated tensor has the size of the table"
    assert max(processes.sent) == weights + 2, "and whether losses and ID gradients are finite"
    changed = (learner.table.weights_PI != before).any(1).nonzero()[:, 0]
    assert changed.tolist() == [0, 1]


def test_equal_ids_of_several_processes_are_summed_before_the_sign() -> None:
    """The sum is twice the gradient of one process, so only the reduction makes a difference."""
    learner = make_learner(make_model())
    alone = make_learner(make_model())
    learner.processes = Pretended()
    for member in (learner, alone):
        member.step(make_batch([4, 3]))
    assert learner.sizes == [2, 2]
    assert_close(gradients_of(learner), gradients_of(alone), rtol=1e-5, atol=1e-8)
    assert_close(learner.table.weights_PI, alone.table.weights_PI, rtol=0, atol=0)


def test_a_curriculum_changes_the_cycles_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(
        make_model(replace(CONFIG, h_cycles=3, l_cycles=2)), total_steps=10, curriculum=((0.3, 1, 1), (0.6, 2, 1))
    )
    cycles = []
    forward = type(learner.model).forward
    monkeypatch.setattr(
        type(learner.model), "forward",
        lambda *arguments, **options: cycles.append(options["cycles"]) or forward(*arguments, **options),
    )  # fmt: skip
    for _ in range(10):
        learner.step(make_batch([4]))
    assert cycles == [(1, 1)] * 3 + [(2, 1)] * 3 + [(3, 2)] * 4
