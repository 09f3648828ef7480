"""95% intervals of figures over tasks: Wilson's for a share, the bootstrap for means and ratios.

In: figures per task. Out: (low, high).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 0
NORMAL_95 = 1.959963984540054

Interval = tuple[float, float]
Values = NDArray[np.floating | np.integer]


def wilson_interval(fraction: float, number: int) -> Interval:
    """The 95% Wilson score interval of a fraction seen in `number` trials (Wilson 1927), within 0 and 1."""
    square = NORMAL_95**2 / number
    centre = (fraction + square / 2) / (1 + square)
    reach = math.sqrt(square * (fraction * (1 - fraction) + square / 4)) / (1 + square)
    # Rounded so that 0 and 1 come out as such.
    return abs(round(float(centre - reach), 12)), round(float(centre + reach), 12)


def bootstrap_ratio(above: Values, below: Values) -> Interval:
    """The middle 95% of sum(above) / sum(below), both (tasks,), when whole tasks are drawn with replacement.

    The draws depend on the number of tasks alone, so figures of the same tasks share theirs.
    """
    drawn = _draw_tasks(len(above))
    low, high = np.quantile((drawn @ above) / (drawn @ below), (0.025, 0.975))
    return float(low), float(high)


def bootstrap_mean(values: Values) -> Interval:
    """The middle 95% of the mean of values (tasks,), as above."""
    return bootstrap_ratio(values, np.ones(len(values)))


@lru_cache(maxsize=1)
def _draw_tasks(number: int) -> NDArray[np.float64]:
    """How often each task is drawn in each resample, (RESAMPLES, number); 32 MB for 400 tasks."""
    drawn = np.random.Generator(np.random.Philox(SEED)).integers(number, size=(RESAMPLES, number))
    cells = (drawn + number * np.arange(RESAMPLES)[:, None]).ravel()
    return np.bincount(cells, minlength=RESAMPLES * number).reshape(RESAMPLES, number).astype(np.float64)
