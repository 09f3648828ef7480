"""python -m tests.fuzz FORMAT NUMBER...: try single mutations in this process, with the traceback of an error."""

import sys
import tempfile
from pathlib import Path

from tests.fuzz.formats import prepare, try_mutation

if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        prepare(name, Path(folder) / "whole")
        for number in map(int, numbers):
            print(number, *try_mutation(name, number, Path(folder) / "whole", Path(folder) / "copy"))
