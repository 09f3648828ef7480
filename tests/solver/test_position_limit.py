"""The limit of positions: lowered by a quarter, raised after long success, and never to a size that failed twice."""

import json

import pytest
import torch

from solver.training.position_limit import GROWTH_STEPS, MOST_POSITIONS, PositionLimit

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def after(limit: PositionLimit, steps: int) -> int | None:
    for _ in range(steps):
        limit.count_step()
    return limit.most


def raises(limit: PositionLimit, times: int) -> list[int | None]:
    return [after(limit, GROWTH_STEPS) for _ in range(times)]


def test_a_gpu_never_computes_more_than_32_bit_indices_reach() -> None:
    limit = PositionLimit(None, CUDA)
    assert limit.most == MOST_POSITIONS == 262_144
    assert PositionLimit(MOST_POSITIONS + 1, CUDA).most == MOST_POSITIONS
    limit.measure(10**9, "kind")
    assert raises(limit, 2) == [MOST_POSITIONS] * 2
    assert PositionLimit(10**9, CPU).most == 10**9
    assert PositionLimit(None, CPU).most is None


def test_a_limit_is_lowered_by_a_quarter_and_raised_to_where_it_failed() -> None:
    limit = PositionLimit(None, CPU)
    limit.lower(1000)
    assert limit.most == 750
    assert limit.change == "a batch did not fit in memory: from now on at most 750 positions at once"
    assert after(limit, GROWTH_STEPS - 1) == 750
    assert after(limit, 1) == 937
    assert limit.change == "memory sufficed for 1000 steps: from now on at most 937 positions at once"
    assert raises(limit, 3) == [1000, 1250, 1562], "it fitted there for 1,000 steps: the failure was an accident"


def test_a_failure_starts_the_count_anew() -> None:
    limit = PositionLimit(1000, CPU)
    limit.lower(1000)
    after(limit, GROWTH_STEPS - 1)
    limit.lower(700)
    assert after(limit, GROWTH_STEPS - 1) == 525


def test_a_limit_that_failed_twice_is_not_tried_again() -> None:
    limit = PositionLimit(2000, CPU)
    limit.lower(1000)  # chunks are often a little smaller than the limit
    assert raises(limit, 2) == [937, 1000]
    limit.lower(990)
    assert limit.most == 742
    assert raises(limit, 3) == [742] * 3


def test_failures_one_after_the_other_are_of_different_sizes() -> None:
    limit = PositionLimit(None, CPU)
    for size in (1000, 740, 550):
        limit.lower(size)
    assert (limit.most, limit.failed, limit.barred) == (412, 550, None)


def test_a_setting_and_a_measurement_are_upper_limits() -> None:
    limit = PositionLimit(1000, CPU)
    limit.measure(3000, "short")
    assert limit.most == 1000
    limit.measure(900, "long")
    assert limit.most == 900
    assert limit.change == "the memory was measured: from now on at most 900 positions at once"
    limit.lower(900)
    assert raises(limit, 4) == [843, 900, 900, 900]
    limit.measure(3000, "short")
    assert raises(limit, 2) == [1000, 1000], "steps that take less memory have a higher ceiling"


@pytest.mark.parametrize("done", [0, 5, GROWTH_STEPS + 5])
def test_a_saved_limit_goes_on_as_if_it_had_not_been(done: int) -> None:
    straight = PositionLimit(None, CPU)
    straight.lower(1000)
    after(straight, done)
    resumed = PositionLimit(None, CPU)
    resumed.load(json.loads(json.dumps(straight.numbers())))
    for limit in (straight, resumed):
        after(limit, GROWTH_STEPS - 5)
        limit.lower(700)
        raises(limit, 2)
        limit.lower(700)
    assert resumed.numbers() == straight.numbers()


def test_a_limit_of_an_older_checkpoint_holds() -> None:
    limit = PositionLimit(None, CUDA)
    limit.load({"most_positions": 700})
    assert limit.most == 700
    limit.load({"most_positions": None})
    assert limit.most == MOST_POSITIONS
