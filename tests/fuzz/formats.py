"""The formats that are fuzzed: whole files, a mutation of a copy of them, and what reads the copy."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz import checkpoints, configs, predictions, puzzle_sets, sources, submissions
from tests.fuzz.outcomes import Refused


@dataclass(frozen=True)
class Format:
    """A kind of file that is fuzzed. Its functions work in the current folder.

    Attributes:
        prepare: writes whole files.
        mutate: alters a copy of them; returns what was done.
        read: uses the copy as commands do; AssertionError for a wrong result, Refused for a message.
    """

    prepare: Callable[[], None]
    mutate: Callable[[Random], str]
    read: Callable[[Random], None]


FORMATS = {
    "sources": Format(sources.prepare, sources.mutate, sources.read),
    "submission": Format(submissions.prepare, submissions.mutate, submissions.read),
    "puzzle_set": Format(puzzle_sets.prepare, puzzle_sets.mutate, puzzle_sets.read),
    "predictions": Format(predictions.prepare, predictions.mutate, predictions.read),
    "checkpoint": Format(checkpoints.prepare, checkpoints.mutate, checkpoints.read),
    "config": Format(configs.prepare, configs.mutate, configs.read),
}


def prepare(name: str, whole: Path) -> None:
    """Write the whole files of a format into a new folder."""
    whole.mkdir(parents=True)
    with chdir(whole):
        FORMATS[name].prepare()


def try_mutation(name: str, number: int, whole: Path, copy: Path) -> tuple[str, str]:
    """Mutate a copy of the whole files and read it.

    Args:
        name: of the format.
        number: of the mutation; the same number is the same mutation.
        whole: the folder that `prepare` wrote.
        copy: where the copy is made; an earlier one is removed.

    Returns:
        "right" or "refused", and what was done to the files.
    """
    random = Random(f"{name}/{number}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    with chdir(copy):
        done = FORMATS[name].mutate(random)
        try:
            FORMATS[name].read(random)
        except Refused:
            return "refused", done
    return "right", done
