"""Runs trials one after the other, or several at once in worker processes.

If the main process is stopped or killed, the workers save a checkpoint of what they train, and exit.
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
from pipeline.runtime.output import protect_output
from pipeline.runtime.stop_signals import SECONDS_TO_END, bounded_end, end_children, when_gone


def run_all_trials(trials: Sequence[Trial], jobs: int) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Run all trials and yield each with its result as soon as it ends; the result of a failed trial has the error.

    With several jobs each worker has one thread, even when fewer trials than jobs are left: results depend on the
    number of threads, so it must be the same for all trials.

    Raises:
        UserError: a worker process was killed.
    """
    if jobs == 1:
        yield from ((trial, try_trial(trial)) for trial in trials)
        return
    # The workers' libraries read these variables when they are imported, so they must be set before the workers start.
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        futures = {pool.submit(_try_in_worker, trial): trial for trial in trials}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except (SystemExit, KeyboardInterrupt, GeneratorExit):
        # The workers save a checkpoint; those that still make a step end by themselves within this time.
        with bounded_end(None):
            end_children(SECONDS_TO_END + 0.5)
        raise
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, possibly because memory ran out",
            "run the same command again to resume, with fewer --jobs if memory is short",
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def try_trial(trial: Trial) -> dict[str, Any]:
    """Return the trial's result, or {"failed": message} if it raised an error."""
    try:
        return run_trial(trial)
    except (ValueError, OSError, RuntimeError, MemoryError, ArithmeticError) as error:
        return {"failed": " ".join(str(error).split())[:300]}


def _start_worker(parent: int) -> None:
    protect_output()
    torch.set_num_threads(1)
    when_gone(parent, _stop_gracefully)


def _stop_gracefully() -> None:
    # SIGTERM lets training save a checkpoint before the process exits.
    os.kill(os.getpid(), signal.SIGTERM)


def _try_in_worker(trial: Trial) -> dict[str, Any]:
    """Run `try_trial` in a worker; if training is stopped by a signal, the process exits."""
    try:
        return try_trial(trial)
    except (SystemExit, KeyboardInterrupt):
        # The pool would pass the exception on and give this worker the next trial; only os._exit() prevents that.
        sys.stdout.flush()
        os._exit(1)
