"""Processes end and save after the same step, without a collective operation of their own for it."""

from pathlib import Path

import pytest

from pipeline.checkpoints.step_folders import list_checkpoints
from pipeline.training.agreement import Agreement
from solver.training.process_group import ProcessGroup
from tests.helpers.commands import launch_script
from tests.helpers.resume import STEPS, TRAIN, build_small_set


class Counted(ProcessGroup):
    """One of two processes, the other of which votes for nothing; counts how often they ask each other."""

    count = 2
    asked = 0

    def any(self, flag: bool) -> bool:
        self.asked += 1
        return flag


def test_one_process_decides_by_itself_whenever_it_is_asked() -> None:
    agreement = Agreement(ProcessGroup())
    assert agreement.votes(lambda: pytest.fail("asked"), lambda: pytest.fail("asked")) is None
    agreement.record(())
    assert [agreement.ends(own) for own in (False, True, False)] == [False, True, False]
    assert [agreement.saves(own) for own in (False, True, False)] == [False, True, False]


def test_several_ask_each_other_before_the_first_step_only() -> None:
    processes = Counted()
    agreement = Agreement(processes)
    assert agreement.ends(True)
    votes = agreement.votes(lambda: False, lambda: True)
    assert votes is not None
    assert tuple(votes()) == (False, True)
    for ends, saves in ((False, True), (True, False)):
        agreement.record((ends, saves))
        assert (agreement.ends(not ends), agreement.saves(not saves)) == (ends, saves)
    assert processes.asked == 1


COUNTED = """
import signal, sys
from torch import distributed
from pipeline.__main__ import main
from solver.training.learner import Learner

calls = []
for name in ("all_reduce", "all_gather"):
    def counted(*given, operation=getattr(distributed, name), name=name, **options):
        calls.append(f"{name} under way in {given[0].dtype}" if options.get("async_op") else name)
        return operation(*given, **options)
    setattr(distributed, name, counted)

step, backward = Learner.step, Learner._backward
def watched(learner, *given):
    if learner.steps == 6:
        print("BETWEEN", learner.processes.index, *calls, sep=",", flush=True)
    if learner.steps == 5:
        calls.clear()
    return step(learner, *given)
def stopped(learner, loss):
    backward(learner, loss)
    if learner.steps == 6 and learner.processes.index == 1:
        signal.raise_signal(signal.SIGTERM)
Learner.step, Learner._backward = watched, stopped
main(sys.argv[1:])
"""


def test_two_processes_stop_after_the_step_in_which_one_gets_a_signal(tmp_path: Path) -> None:
    """The signal comes in the second process during the backward pass of step 7, before the sum of gradients."""
    build_small_set(tmp_path / "set")
    (tmp_path / "counted.py").write_text(COUNTED)
    words = ("train", "--puzzles", tmp_path / "set", *TRAIN, *STEPS, "--set", "train.precision=bf16")
    words = (*words, "--run-dir", tmp_path / "run")
    done = launch_script(2, tmp_path / "counted.py", *words)
    assert "stopped by a signal at step 7 of 17" in done.stdout, done.stderr[-2000:]
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step_0000007"
    assert not (tmp_path / "run" / "checkpoints" / "final").exists()
    between = sorted(line for line in done.stdout.splitlines() if line.startswith("BETWEEN"))
    expected = "all_reduce under way in torch.bfloat16,all_gather,all_gather"
    assert between == [f"BETWEEN,{index},{expected}" for index in range(2)]
