"""How a run that nobody watches spends its time: a budget and what was measured come in, who works until when goes out.

All times are seconds since the start of the run. The time for the last prediction is kept from the start: a share of
the budget until the speed is known, then what it needs and a fifth more. Training gets the rest.
"""

from dataclasses import dataclass, replace

from pipeline.config.run_config import UnattendedSettings
from pipeline.time_budget import format_duration

LEAST_MARGIN = 3.0
SECONDS_TO_END = 6.0
"""Once prediction is over: for the last vote, score and report, and for the process to leave."""
EARLIEST_PASS = 30.0
CHEAP_SHARE = 0.05
"""Of the budget, what a cheap pass takes at most by what was measured."""
LONGEST_PASS = 0.1
"""Of the budget, after which a cheap pass is ended with what it has."""
CAUTION = 1.2


@dataclass(frozen=True)
class Speed:
    """What predicting was seen to take.

    start: seconds until the first answers of a stage that has just been started
    view: seconds for all test inputs under one augmentation; None until it was measured
    extra: seconds that the last pass takes besides (training on each task by itself)
    """

    start: float = 8.0
    view: float | None = None
    extra: float = 0.0

    def seconds(self, views: int) -> float:
        """Cautiously, what a pass under so many augmentations takes."""
        return CAUTION * (self.start + views * (self.view or 0.0))

    def views_within(self, seconds: float) -> int:
        """Under how many augmentations a pass of that length asks; none where it cannot be told."""
        return int((seconds / CAUTION - self.start) / self.view) if self.view else 0

    def measured(self, start: float, seconds: float, share: float, views: int) -> "Speed":
        """With what a pass took: until its first answers, and from then for a share of its work, views in all."""
        done = share * views
        return replace(self, start=start, view=seconds / done) if done > 0 and seconds > 0 else self


@dataclass(frozen=True)
class Pass:
    """A prediction: when training stops for it, when it is ended if it is not done, and its augmentations."""

    begin: float
    until: float
    views: int


@dataclass(frozen=True)
class PassSchedule:
    """A budget in seconds, and how it is spent.

    most_views: how many augmentations the puzzle set has
    last_cost: what the last pass takes beside a cheap one, for each augmentation (candidates may be rescored in it)
    """

    budget: float
    settings: UnattendedSettings
    most_views: int
    speed: Speed = Speed()
    last_cost: float = 1.0

    @property
    def finish(self) -> float:
        """When everything is over: the margin before the end of the budget."""
        return self.budget - max(LEAST_MARGIN, self.settings.margin * self.budget)

    def cheap_passes(self) -> list[float]:
        """When training stops for a cheap prediction."""
        begins = [share * self.budget for share in self.settings.passes]
        return [begin for begin in begins if begin >= EARLIEST_PASS] or begins[-1:]

    def cheap_pass(self, begin: float) -> Pass:
        """The first asks under few augmentations, later ones under as many as take little time."""
        views = max(self.settings.first_views, self.speed.views_within(CHEAP_SHARE * self.budget))
        longest = max(LONGEST_PASS * self.budget, 2 * self.speed.start)
        return Pass(begin, min(begin + longest, self.last_pass(begin).begin), min(views, self.most_views))

    def last_pass(self, now: float) -> Pass:
        """As many augmentations as its share of the budget allows, as late as it can begin, and not before now."""
        until = self.finish - SECONDS_TO_END
        share = self.settings.predict_share * self.budget
        if self.speed.view is None:
            return Pass(max(now, until - share), until, self.most_views)
        extra = CAUTION * self.speed.extra if self.affords_extra() else 0.0
        speed = replace(self.speed, view=self.speed.view * self.last_cost)
        views = min(self.most_views, max(1, speed.views_within(max(0.0, min(share, until - now) - extra))))
        needed = speed.seconds(views) + extra
        return Pass(max(now, until - needed), until, views)

    def affords_extra(self) -> bool:
        """Whether what the last pass takes besides leaves as many augmentations in its share as the first pass has."""
        left = self.settings.predict_share * self.budget - CAUTION * self.speed.extra
        return not self.speed.extra or self.speed.views_within(left) >= min(self.settings.first_views, self.most_views)

    def describe(self, now: float, steps: int = 0, seconds_a_step: float | None = None) -> str:
        """A line for the log: what follows and when it will be done."""
        last = self.last_pass(now)
        if seconds_a_step and last.begin > now:
            more = int((last.begin - now) / seconds_a_step)
            train = (
                f"train until {format_duration(last.begin)} (about {steps + more:,} steps, {seconds_a_step:.2g} s each)"
            )
        else:
            train = f"train until {format_duration(last.begin)}"
        known = f"{self.speed.view:.2g} s for each" if self.speed.view else "as many of them as there is time for"
        done = format_duration(self.finish)
        left = format_duration(self.budget - self.finish)
        return (
            f"{train}, then predict under {last.views} augmentations ({known}); done by {done}, "
            f"{left} before the budget ends"
        )
