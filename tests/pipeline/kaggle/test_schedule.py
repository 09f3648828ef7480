"""The schedule of an unattended run: time reserved for prediction, and limits that always hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import UnattendedSettings
from pipeline.kaggle.schedule import LEAST_MARGIN, SECONDS_TO_END, PassSchedule, Speed

SETTINGS = UnattendedSettings(margin=0.02, passes=(0.1, 0.4), first_views=4, predict_share=0.25)


def test_an_unknown_speed_reserves_the_whole_share() -> None:
    schedule = PassSchedule(1000, SETTINGS, 129)
    assert schedule.finish == 980
    assert schedule.last_pass(0).begin == pytest.approx(980 - SECONDS_TO_END - 250)
    assert schedule.last_pass(0).views == 129


def test_a_known_speed_reserves_what_it_needs() -> None:
    fast = PassSchedule(1000, SETTINGS, 129, Speed(start=10, view=0.5))
    assert fast.last_pass(100).views == 129
    assert fast.last_pass(100).begin == pytest.approx(980 - SECONDS_TO_END - 1.2 * (10 + 129 * 0.5))
    slow = PassSchedule(1000, SETTINGS, 129, Speed(start=10, view=20))
    assert slow.last_pass(100).views == int((250 / 1.2 - 10) / 20) == 9
    assert slow.last_pass(100).begin >= 980 - SECONDS_TO_END - 250


def test_training_on_each_task_takes_time_from_the_same_share() -> None:
    schedule = PassSchedule(1000, SETTINGS, 129, Speed(start=10, view=2.0, extra=100))
    assert schedule.last_pass(0).views == int(((250 - 120) / 1.2 - 10) / 2)
    rescored = PassSchedule(1000, SETTINGS, 129, Speed(start=10, view=2.0), last_cost=2.0)
    assert rescored.last_pass(0).views == int((250 / 1.2 - 10) / 4), "candidates are rescored"
    too_much = PassSchedule(1000, SETTINGS, 129, Speed(start=10, view=2.0, extra=300))
    assert schedule.affords_extra()
    assert PassSchedule(60, SETTINGS, 129, Speed(start=60)).affords_extra(), "there is no extra"
    assert not too_much.affords_extra()
    assert too_much.last_pass(0).views == int((250 / 1.2 - 10) / 2), (
        "training on each task is left out, so it takes no time"
    )


def test_a_cheap_pass_comes_by_half_time_and_early_ones_only_in_long_runs() -> None:
    assert PassSchedule(42_600, SETTINGS, 129).cheap_passes() == [4260, 17_040]
    assert PassSchedule(60, SETTINGS, 129).cheap_passes() == [24]
    first = PassSchedule(1000, SETTINGS, 129).cheap_pass(100)
    assert (first.views, first.until) == (4, 200)
    later = PassSchedule(1000, SETTINGS, 129, Speed(start=10, view=1.0)).cheap_pass(400)
    assert later.views == int(50 / 1.2 - 10)


@given(
    st.floats(20, 50_000), st.integers(1, 1001), st.floats(0, 0.5), st.floats(0.01, 0.99), st.floats(0, 100),
    st.none() | st.floats(1e-4, 1e4), st.floats(0, 1e4), st.floats(0, 1),
)  # fmt: skip
def test_everything_ends_before_the_margin(
    budget: float, most: int, margin: float, share: float, start: float, view: float | None, extra: float, passed: float
) -> None:
    settings = UnattendedSettings(margin=margin, predict_share=share)
    schedule = PassSchedule(budget, settings, most, Speed(start, view, extra))
    now = passed * budget
    last = schedule.last_pass(now)
    assert schedule.finish <= budget - max(LEAST_MARGIN, margin * budget)
    assert last.until <= schedule.finish - SECONDS_TO_END
    assert 1 <= last.views <= most
    assert last.begin >= now
    cheap = schedule.cheap_pass(now)
    assert 1 <= cheap.views <= most
    assert cheap.until <= max(last.begin, now)
    assert schedule.describe(now)


def test_speed_is_measured_from_the_share_done() -> None:
    whole = Speed().with_measurement(start=6.0, seconds=10.0, share=1.0, augmentations=5)
    assert (whole.start, whole.view) == (6.0, 2.0)
    half = Speed().with_measurement(start=6.0, seconds=10.0, share=0.5, augmentations=5)
    assert half.view == 4.0
    assert Speed().with_measurement(6.0, 10.0, 0.0, 5) == Speed()
    assert Speed().with_measurement(6.0, 0.0, 1.0, 5) == Speed(), "parts from an earlier start were not timed"
