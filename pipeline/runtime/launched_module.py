"""Run the launcher of torchrun or accelerate, and end with the exit code of the processes that it launched.

    python -m pipeline.runtime.launched_module MODULE ARGUMENT ...

Without this wrapper the launchers end with 1 after any error, and print a traceback of their own.
"""

import runpy
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pipeline.runtime.exit_codes import ExitCode
from pipeline.runtime.output import protect_output

REPORTED = {code for code in ExitCode if code not in (ExitCode.DONE, ExitCode.BUG)}
"""Exit codes of processes that have reported their error themselves."""


def main(arguments: list[str]) -> None:
    """Run the launcher's module with its arguments; report the end of a process that could not report it itself."""
    protect_output()
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SignalException as signalled:
        sys.exit(128 + signalled.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode not in REPORTED:
            print(f"error: process {rank} ended with exit code {failure.exitcode}", file=sys.stderr, flush=True)
        # A negative code is a signal, which shells and the parent expect as 128 + N.
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)


if __name__ == "__main__":
    main(sys.argv[1:])
