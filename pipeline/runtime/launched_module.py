"""The launcher of several processes, torchrun's or accelerate's, which ends with the exit code of what it launched.

    python -m pipeline.runtime.launched_module MODULE WORD ...

The launchers by themselves end with 1 after any error, and print a traceback of their own.
"""

import runpy
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pipeline.runtime.exit_codes import ExitCode

REPORTED = {code for code in ExitCode if code not in (ExitCode.DONE, ExitCode.BUG)}
"""Exit codes of processes that have reported why they ended."""


def main(words: list[str]) -> None:
    """Run the launcher's module with its words; report how a process ended that could not report it itself."""
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SignalException as signalled:
        sys.exit(128 + signalled.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode not in REPORTED:
            print(f"error: process {rank} ended with exit code {failure.exitcode}", file=sys.stderr, flush=True)
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)


if __name__ == "__main__":
    main(sys.argv[1:])
