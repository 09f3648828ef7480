"""What the processes of a training decide alike: whether to end, and whether to save.

Signals and clocks differ between processes, but all must end after the same step. With several processes each step
sends their votes along with the gradients (`solver.training.gradients`), so that agreeing costs no communication and no
wait of its own. A vote that is set too late for the sum of one step counts in the next.
"""

from collections.abc import Callable, Sequence

from solver.training.process_group import ProcessGroup


class Agreement:
    """The decisions of all processes; those of a single process are always its own, at the moment of the question."""

    def __init__(self, processes: ProcessGroup):
        self._processes = processes
        self._ends = self._saves = None

    def votes(self, ends: Callable[[], bool], saves: Callable[[], bool]) -> Callable[[], Sequence[bool]] | None:
        """Return the votes for `Learner.step`, from what this process would do; None if it is the only one."""
        return None if self._processes.count == 1 else lambda: (ends(), saves())

    def record(self, votes: Sequence[bool]) -> None:
        """Take the result of a step's votes; there are none in a single process."""
        if votes:
            self._ends, self._saves = votes

    def ends(self, own: bool) -> bool:
        """Return whether to make no further step; before the first one the processes ask each other."""
        return self._processes.any(own) if self._ends is None else self._ends

    def saves(self, own: bool) -> bool:
        """Return whether to save after the step that was just made."""
        return own if self._saves is None else self._saves
