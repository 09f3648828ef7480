"""The limit of positions: lowered by a quarter, raised after long success, and never to a size that failed twice."""

import json
import math
from dataclasses import replace

import pytest
import torch

from solver.model.config import ModelConfig
from solver.model.layers import Linear
from solver.model.model import RecursiveModel
from solver.training.position_limit import (
    GROWTH_STEPS,
    MOST_POSITIONS,
    PositionLimit,
    most_positions,
    values_per_position,
)
from tests.helpers.symbol_model import CONFIG as SYMBOL_CONFIG

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
PUBLISHED = ModelConfig()


def after(limit: PositionLimit, steps: int) -> int | None:
    for _ in range(steps):
        limit.count_step()
    return limit.most


def raises(limit: PositionLimit, times: int) -> list[int | None]:
    return [after(limit, GROWTH_STEPS) for _ in range(times)]


SYMBOLS = replace(SYMBOL_CONFIG, hidden=256, heads=4, symbol_heads=2, inner_multiple=256, expansion=4.0)
WIDE = {
    "published": (PUBLISHED, 3072, 262_144),
    "wide": (replace(PUBLISHED, hidden=4096), 22_016, 97_541),
    "symbols": (SYMBOLS, 12 * 1536, 116_508),
    "queries": (replace(PUBLISHED, expansion=0.5), 1536, 262_144),
    "mlp": (replace(PUBLISHED, mixer="mlp", canvas="full", board_side=2, id_slots=1), 52_429, 40_959),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_gpu_never_computes_more_than_32_bit_indices_reach(name: str) -> None:
    config, values, positions = WIDE[name]
    assert values_per_position(config) == values
    assert most_positions(config, CUDA) == positions
    assert most_positions(config, CPU) is None
    assert positions * values < 2**31


@pytest.mark.parametrize("name", ["published", "symbols", "queries", "mlp"])
def test_no_layer_of_a_model_is_wider(name: str) -> None:
    """A linear layer maps a row for each position, or for each symbol of it; the MLP mixer one for each channel."""
    config = WIDE[name][0]
    widths = []
    for path, layer in RecursiveModel(config).named_modules():
        if isinstance(layer, Linear) and layer.weight.shape[1] > 1 and "head" not in path:
            mixes_positions = config.mixer == "mlp" and "mixer" in path
            rows = config.hidden / (config.cells + config.id_slots) if mixes_positions else 1
            widths.append(math.ceil(rows * layer.weight.shape[0]))
    assert values_per_position(config) == max(widths) * (config.vocabulary if config.symbols else 1)


def test_the_limit_of_a_device_is_never_exceeded() -> None:
    limit = PositionLimit(None, 5000)
    assert limit.most == 5000
    assert PositionLimit(5001, 5000).most == 5000
    assert PositionLimit(4000, 5000).most == 4000
    limit.measure(10**9, "kind")
    assert raises(limit, 2) == [5000] * 2
    assert PositionLimit(None).most is None


def test_a_limit_is_lowered_by_a_quarter_and_raised_to_where_it_failed() -> None:
    limit = PositionLimit(None)
    limit.lower(1000)
    assert limit.most == 750
    assert limit.change == "a batch did not fit in memory: from now on at most 750 positions at once"
    assert after(limit, GROWTH_STEPS - 1) == 750
    assert after(limit, 1) == 937
    assert limit.change == "memory sufficed for 1000 steps: from now on at most 937 positions at once"
    assert raises(limit, 3) == [1000, 1250, 1562], "it fitted there for 1,000 steps: the failure was an accident"


def test_a_failure_starts_the_count_anew() -> None:
    limit = PositionLimit(1000)
    limit.lower(1000)
    after(limit, GROWTH_STEPS - 1)
    limit.lower(700)
    assert after(limit, GROWTH_STEPS - 1) == 525


def test_a_limit_that_failed_twice_is_not_tried_again() -> None:
    limit = PositionLimit(2000)
    limit.lower(1000)  # chunks are often a little smaller than the limit
    assert raises(limit, 2) == [937, 1000]
    limit.lower(990)
    assert limit.most == 742
    assert raises(limit, 3) == [742] * 3


def test_failures_one_after_the_other_are_of_different_sizes() -> None:
    limit = PositionLimit(None)
    for size in (1000, 740, 550):
        limit.lower(size)
    assert (limit.most, limit.failed, limit.barred) == (412, 550, None)


def test_a_setting_and_a_measurement_are_upper_limits() -> None:
    limit = PositionLimit(1000)
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
    straight = PositionLimit(None)
    straight.lower(1000)
    after(straight, done)
    resumed = PositionLimit(None)
    resumed.load(json.loads(json.dumps(straight.numbers())))
    for limit in (straight, resumed):
        after(limit, GROWTH_STEPS - 5)
        limit.lower(700)
        raises(limit, 2)
        limit.lower(700)
    assert resumed.numbers() == straight.numbers()


def test_a_limit_of_an_older_checkpoint_holds() -> None:
    limit = PositionLimit(None, MOST_POSITIONS)
    limit.load({"most_positions": 700})
    assert limit.most == 700
    limit.load({"most_positions": None})
    assert limit.most == MOST_POSITIONS
