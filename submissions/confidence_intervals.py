"""95% confidence intervals of figures over tasks: Wilson for a share, bootstrap for means and ratios.

Each function takes one figure per task, or a share and the number of tasks, and returns (low, high).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 0
NORMAL_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""

Interval = tuple[float, float]
Values = NDArray[np.floating | np.integer]


def wilson_interval(fraction: float, number: int) -> Interval:
    """Return the 95% Wilson score interval, within [0, 1], of a fraction observed in `number` trials (Wilson 1927)."""
    square = NORMAL_95**2 / number
    centre = (fraction + square / 2) / (1 + square)
    half_width = math.sqrt(square * (fraction * (1 - fraction) + square / 4)) / (1 + square)
    # Rounded so that the ends are exactly 0 and 1 for fractions of 0 and 1; abs() turns -0.0 into 0.0.
    return abs(round(float(centre - half_width), 12)), round(float(centre + half_width), 12)


def bootstrap_ratio(above: Values, below: Values) -> Interval:
    """Return the 95% bootstrap interval of sum(above) / sum(below), both (tasks,), resampling whole tasks.

    The resamples depend only on the number of tasks, so all figures of the same tasks use the same resamples.
    """
    weights = _draw_tasks(len(above))
    low, high = np.quantile((weights @ above) / (weights @ below), (0.025, 0.975))
    return float(low), float(high)


def bootstrap_mean(values: Values) -> Interval:
    """Return the 95% bootstrap interval of the mean of values (tasks,), resampling whole tasks."""
    return bootstrap_ratio(values, np.ones(len(values)))


@lru_cache(maxsize=1)
def _draw_tasks(number: int) -> NDArray[np.float64]:
    """Return how often each task occurs in each resample, (RESAMPLES, number); 32 MB for 400 tasks."""
    draws = np.random.Generator(np.random.Philox(SEED)).integers(number, size=(RESAMPLES, number))
    # Offset by the resample, so that one bincount counts all resamples at once.
    cells = (draws + number * np.arange(RESAMPLES)[:, None]).ravel()
    return np.bincount(cells, minlength=RESAMPLES * number).reshape(RESAMPLES, number).astype(np.float64)
