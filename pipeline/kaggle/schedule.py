"""The schedule of an unattended run: when training stops and each prediction pass starts and ends.

It follows from the budget and from measured speeds. All times are seconds since the start of the run. Time for the
last prediction is reserved from the start: a share of the budget until the speed of prediction is known, then the
time that it needs and a fifth more. Training gets the rest.
"""

from dataclasses import dataclass, replace

from pipeline.config.run_config import UnattendedSettings
from pipeline.time_budget import format_duration

LEAST_MARGIN = 3.0
SECONDS_TO_END = 6.0
"""Reserved after the last prediction: for the last vote, score and report, and for the process to end."""
EARLIEST_PASS = 30.0
CHEAP_SHARE = 0.05
"""Share of the budget that a cheap pass is planned to take, by the measured speed."""
LONGEST_PASS = 0.1
"""Share of the budget after which a cheap pass is ended with the predictions that it has."""
CAUTION = 1.2
"""Factor on every estimated duration."""


@dataclass(frozen=True)
class Speed:
    """Measured durations of prediction.

    start: seconds from the start of a stage until its first predictions
    view: seconds for all test inputs under one augmentation; None until it has been measured
    extra: seconds that the last pass takes in addition (training on each task by itself)
    """

    start: float = 8.0
    view: float | None = None
    extra: float = 0.0

    def seconds(self, augmentations: int) -> float:
        """Return the estimated seconds of a pass under so many augmentations, with `CAUTION`."""
        return CAUTION * (self.start + augmentations * (self.view or 0.0))

    def augmentations_within(self, seconds: float) -> int:
        """Return how many augmentations fit into a pass of so many seconds; 0 if the speed is not known."""
        return int((seconds / CAUTION - self.start) / self.view) if self.view else 0

    def with_measurement(self, start: float, seconds: float, share: float, augmentations: int) -> "Speed":
        """Return the speed after a pass has been measured.

        Args:
            start: seconds until its first predictions.
            seconds: from then until its end.
            share: of its predictions that were made.
            augmentations: of a complete pass.
        """
        count = share * augmentations
        return replace(self, start=start, view=seconds / count) if count > 0 and seconds > 0 else self


@dataclass(frozen=True)
class Pass:
    """A planned prediction.

    begin: when training stops for it
    until: when it is ended if it is not complete
    views: how many augmentations it predicts, the original counted
    """

    begin: float
    until: float
    views: int


@dataclass(frozen=True)
class PassSchedule:
    """How a budget is spent.

    budget: in seconds
    settings: of the unattended run
    most_views: how many augmentations the puzzle set has, the original counted
    speed: of prediction, as measured so far
    last_cost: cost of an augmentation in the last pass relative to a cheap one (candidates may be rescored in it)
    """

    budget: float
    settings: UnattendedSettings
    most_views: int
    speed: Speed = Speed()
    last_cost: float = 1.0

    @property
    def finish(self) -> float:
        """When the run must be over: the margin before the end of the budget."""
        return self.budget - max(LEAST_MARGIN, self.settings.margin * self.budget)

    def cheap_passes(self) -> list[float]:
        """Return the times at which training stops for a cheap pass."""
        begins = [share * self.budget for share in self.settings.passes]
        # A short run, where all come too early, keeps the last of them: it measures the speed of prediction.
        return [begin for begin in begins if begin >= EARLIEST_PASS] or begins[-1:]

    def cheap_pass(self, begin: float) -> Pass:
        """Plan a cheap pass: few augmentations at first, later as many as take `CHEAP_SHARE` of the budget."""
        affordable = self.speed.augmentations_within(CHEAP_SHARE * self.budget)
        augmentations = max(self.settings.first_views, affordable)
        longest = max(LONGEST_PASS * self.budget, 2 * self.speed.start)
        until = min(begin + longest, self.last_pass(begin).begin)
        return Pass(begin, until, min(augmentations, self.most_views))

    def last_pass(self, now: float) -> Pass:
        """Plan the last pass: as many augmentations as its share of the budget allows, begun as late as possible.

        It does not begin before `now`.
        """
        until = self.finish - SECONDS_TO_END
        share = self.settings.predict_share * self.budget
        if self.speed.view is None:
            return Pass(max(now, until - share), until, self.most_views)
        extra = CAUTION * self.speed.extra if self.affords_extra() else 0.0
        speed = replace(self.speed, view=self.speed.view * self.last_cost)
        available = max(0.0, min(share, until - now) - extra)
        augmentations = min(self.most_views, max(1, speed.augmentations_within(available)))
        duration = speed.seconds(augmentations) + extra
        return Pass(max(now, until - duration), until, augmentations)

    def affords_extra(self) -> bool:
        """Return whether training on each task leaves the last pass as many augmentations as the first pass has."""
        rest = self.settings.predict_share * self.budget - CAUTION * self.speed.extra
        minimum = min(self.settings.first_views, self.most_views)
        return not self.speed.extra or self.speed.augmentations_within(rest) >= minimum

    def describe(self, now: float, steps: int = 0, seconds_a_step: float | None = None) -> str:
        """Return a log line with what follows and when the run will be done."""
        last = self.last_pass(now)
        train = f"train until {format_duration(last.begin)}"
        if seconds_a_step and last.begin > now:
            total = steps + int((last.begin - now) / seconds_a_step)
            train += f" (about {total:,} steps, {seconds_a_step:.2g} s each)"
        pace = f"{self.speed.view:.2g} s for each" if self.speed.view else "as many of them as there is time for"
        end = format_duration(self.finish)
        margin = format_duration(self.budget - self.finish)
        return (
            f"{train}, then predict under {last.views} augmentations ({pace}); done by {end}, "
            f"{margin} before the budget ends"
        )
