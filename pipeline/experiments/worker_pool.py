"""Trials in, each with its result as it ends: one after the other, or several at once in processes of their own.

A worker is never left behind: where the table is stopped or killed, its workers save what they train and end.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from augment.errors import UserError
from pipeline.experiments.trial import Trial, run_trial
from pipeline.runtime.stop_signals import when_gone


def run_all_trials(trials: Sequence[Trial], jobs: int) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Each trial with its result, as they end; one that fails has a result that says why.

    Several jobs have one thread each, and so has the last of them that is left over: as many threads, the same bits.

    Raises:
        ValueError: where a worker was killed.
    """
    if jobs == 1:
        yield from ((trial, try_trial(trial)) for trial in trials)
        return
    # Set before the processes start: their libraries read it as they are loaded.
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(os.getpid(),))
    try:
        waiting = {pool.submit(_try_in_worker, trial): trial for trial in trials}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "a training's process was killed, perhaps for want of memory: try fewer --jobs", "the same command goes on"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def try_trial(trial: Trial) -> dict[str, Any]:
    """The trial's result, or why there is none."""
    try:
        return run_trial(trial)
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        return {"failed": " ".join(str(error).split())[:300]}


def _begin(parent: int) -> None:
    torch.set_num_threads(1)
    when_gone(parent, _stop_as_a_user_would)


def _stop_as_a_user_would() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _try_in_worker(trial: Trial) -> dict[str, Any]:
    """As `try_trial`; a training that is stopped ends the process, which would take the next trial otherwise."""
    try:
        return try_trial(trial)
    except (SystemExit, KeyboardInterrupt):
        sys.stdout.flush()
        os._exit(1)
