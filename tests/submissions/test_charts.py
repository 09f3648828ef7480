"""The charts of a report agree with the figures, and its safe palette is distinguishable with colour blindness."""

import math
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from augment import load_tasks
from submissions import Candidate, Figures, Score, make_submission, score_submission
from submissions.report.charts import POINTS, draw_charts, draw_curves, draw_pass_at, draw_votes
from submissions.report.svg_grid import PALETTES
from submissions.report.views import TaskView, view_task

NAMES = {"exact": "trained on", "held_out_exact": "held out"}


def figures(macro: float) -> Figures:
    return Figures(macro, (0, 1), macro, (0, 1), macro, (0, 1))


def scored(pass_at: dict[str, float], coverage: float) -> Score:
    return Score("here", 10, 10, figures(0.1), figures(0.2), (), coverage=figures(coverage), pass_at=pass_at)


def views(rights: list[tuple[int, bool]]) -> list[TaskView]:
    """Views of tasks whose first candidate has the given number of ten votes, and is right or not."""
    tasks = load_tasks("arc-agi-1/evaluation")[: len(rights)]
    task_views = []
    for task, (votes, right) in zip(tasks, rights, strict=True):
        other = np.ones((1, 1), np.uint8)
        truth = task.tests[0].output
        assert truth is not None
        first = [Candidate(truth if right else other, votes, 1.0), Candidate(other, 10 - votes, 1.0)]
        ballot = {task.id: [first] * len(task.tests)}
        task_views.append(view_task(task, make_submission(ballot, [task]), ballot))
    return task_views


def test_pass_at_k_runs_on_a_logarithmic_axis_up_to_its_limit() -> None:
    depths = [1, 2, 3, 5, 10, 100, 1000]
    chart = draw_pass_at(scored({str(depth): min(0.1 * math.sqrt(depth), 0.4) for depth in depths}, 0.4))
    assert chart is not None
    limit, curve = chart.lines
    assert [height for _, height in limit.points] == pytest.approx([1, 1])
    assert curve.points[0] == (0, pytest.approx(0.1 / 0.4))
    assert curve.points[-1] == pytest.approx((1, 1))
    assert [tick.text for tick in chart.x_ticks] == ["1", "2", "5", "10", "100"]
    assert "pass@10 31.6%" in chart.words


def test_pass_at_k_of_nothing_covered_is_a_line_at_zero() -> None:
    chart = draw_pass_at(scored({"1": 0.0, "10": 0.0}, 0.0))
    assert chart is not None
    assert {height for line in chart.lines for _, height in line.points} == {0}


def test_a_thousand_depths_draw_as_few_points_as_they_need() -> None:
    chart = draw_pass_at(scored({str(depth): 0.2 if depth < 500 else 0.3 for depth in range(1, 1001)}, 0.3))
    assert chart is not None
    assert len(chart.lines[1].points) == 3


def test_votes_are_counted_by_their_share() -> None:
    chart = draw_votes(views([(2, False), (2, True), (2, False), (10, True)]))
    assert chart is not None
    assert [(bar.left, bar.text) for bar in chart.bars] == [(0.2, "3"), (0.9, "1")]
    assert [bar.height for bar in chart.bars] == pytest.approx([1 / 3, 1])
    assert all(bar.interval[0] <= bar.height <= bar.interval[1] for bar in chart.bars)
    assert "20 to 30% of the votes: 1 of 3" in chart.words


@pytest.mark.parametrize("lines", [2, POINTS, 10 * POINTS + 7])
def test_curves_span_their_steps_and_keep_their_mean(lines: int) -> None:
    curves = [{"step": 5 * line, "exact": line / lines} for line in range(1, lines + 1)]
    chart = draw_curves("title", "label", NAMES, curves, shares=True)
    assert chart is not None
    (curve,) = chart.lines
    places, heights = np.array(curve.points).T
    assert len(places) == min(lines, POINTS)
    assert np.all(np.diff(places) > 0)
    assert places[-1] <= 1
    assert heights.mean() == pytest.approx((lines + 1) / 2 / lines, rel=0.02)


def test_lines_without_a_figure_are_left_out() -> None:
    curves = [{"step": 1, "exact": math.nan}, {"exact": 1}, {"step": 2, "exact": 0.5, "held_out_exact": None}]
    assert draw_curves("title", "label", NAMES, curves) is None
    chart = draw_curves("title", "label", NAMES, [*curves, {"step": 4, "exact": 0.6}])
    assert chart is not None
    assert [line.name for line in chart.lines] == ["trained on"]
    assert [place for place, _ in chart.lines[0].points] == [0.5, 1]


@pytest.mark.parametrize("end", [1, 2, 9, 10, 20, 99, 100, 6000, 123_456])
def test_steps_have_a_few_round_ticks(end: int) -> None:
    chart = draw_curves("title", "label", NAMES, [{"step": 0.5, "exact": 0}, {"step": end, "exact": 1}])
    assert chart is not None
    places = [tick.at for tick in chart.x_ticks]
    assert 2 <= len(places) <= 6
    assert places == sorted(places)
    assert places[-1] <= 1


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [(2.3, "0 0.5 1 1.5 2 2.5"), (0.031, "0 0.01 0.02 0.03 0.04"), (9, "0 2 4 6 8 10"), (0, "0 0.2 0.4 0.6 0.8 1")],
)
def test_heights_have_round_ticks(highest: float, ticks: str) -> None:
    chart = draw_curves("title", "label", NAMES, [{"step": 1, "exact": 0}, {"step": 2, "exact": highest}])
    assert chart is not None
    assert " ".join(tick.text for tick in chart.y_ticks) == ticks


def test_what_cannot_be_drawn_is_left_out() -> None:
    task = load_tasks("arc-agi-1/evaluation")[0]
    hidden = view_task(task.hidden(), {}, {})
    assert draw_charts([hidden], None, []) == []
    alone = score_submission({task.id: [{"attempt_1": [[0]], "attempt_2": [[0]]}]}, [task], "here")
    assert draw_charts([view_task(task, {}, {})], alone, []) == []


# Simulation of colour blindness: Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
EYES = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1, 1.08883])


def to_lab(colour: str, eye: str) -> NDArray[np.float64]:
    """CIELAB coordinates of "#rrggbb" as seen with one of EYES."""
    values = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(EYES[eye]) @ linear, 0, 1) / WHITE
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """CIEDE2000 (Sharma, Wu and Dalal 2005)."""
    chroma = (math.hypot(*one[1:]) + math.hypot(*other[1:])) / 2
    stretch = 1.5 - 0.5 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    (c1, h1), (c2, h2) = (
        (math.hypot(a * stretch, b), math.degrees(math.atan2(b, a * stretch)) % 360) for _, a, b in (one, other)
    )
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0
    light, middle, hue = (one[0] + other[0]) / 2, (c1 + c2) / 2, h1 + turn / 2 if c1 * c2 else h1 + h2
    weights = ((-0.17, 1, 30), (0.24, 2, 0), (0.32, 3, -6), (-0.2, 4, 63))
    t = 1 + sum(weight * math.cos(math.radians(times * hue - shift)) for weight, times, shift in weights)
    dl = (other[0] - one[0]) / (1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * middle)
    dh = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2)) / (1 + 0.015 * middle * t)
    bend = 60 * math.exp(-(((hue % 360 - 275) / 25) ** 2))
    rotation = -2 * math.sqrt(middle**7 / (middle**7 + 25**7)) * math.sin(math.radians(bend))
    return math.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh)


def closest(palette: tuple[str, ...], eye: str) -> float:
    return min(difference(to_lab(one, eye), to_lab(other, eye)) for one, other in combinations(palette, 2))


def test_the_measure_is_the_published_one() -> None:
    """Two pairs of Sharma's test data."""
    assert difference(np.array([50, 2.6772, -79.7751]), np.array([50, 0, -82.7485])) == pytest.approx(2.0425, abs=1e-4)
    assert difference(np.array([22.7233, 20.0904, -46.694]), np.array([23.0331, 14.973, -42.5619])) == pytest.approx(
        2.0373, abs=1e-4
    )


def test_the_safe_colours_are_told_apart_by_all_eyes() -> None:
    assert [len(set(palette)) for palette in PALETTES.values()] == [10, 10]
    for eye in ("all", "protanopia", "deuteranopia"):
        assert closest(PALETTES["safe"], eye) > 20.7
    assert closest(PALETTES["safe"], "tritanopia") > 13
    assert min(closest(PALETTES["arc"], eye) for eye in ("protanopia", "deuteranopia")) < 6


def test_the_safe_colours_stay_near_the_ones_they_stand_for() -> None:
    pairs = zip(PALETTES["arc"], PALETTES["safe"], strict=True)
    assert max(difference(to_lab(one, "all"), to_lab(other, "all")) for one, other in pairs) <= 22
