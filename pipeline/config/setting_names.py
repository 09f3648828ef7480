"""Dotted setting names, such as "train.lr": flattening, comparison, suggestions for typos, validation messages."""

import difflib
from typing import Any

from pydantic import ValidationError

LONGEST_VALUE = 200
"""Characters of a value or name in a message."""
MOST_ERRORS = 12
"""Errors listed in a message."""


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every setting of a nested config by its dotted name, which is the name that `--set` takes."""
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def nearest_names(name: str, known: list[str]) -> list[str]:
    """Return the three known names that are most similar to a misspelt one.

    Names of the same group come first, then names that abbreviate the given one ("lr" for "learning_rate"), then the
    most similar spellings.
    """
    group = name.rpartition(".")[0]
    return sorted(known, key=lambda other: (
        other.rpartition(".")[0] != group,
        not _is_short_for(other, name),
        -difflib.SequenceMatcher(None, name, other).ratio(),
    ))[:3]  # fmt: skip


def _is_short_for(short: str, name: str) -> bool:
    """Whether the letters of `short` are a subsequence of those of `name`."""
    # `in` consumes the iterator up to the match, so each letter is searched for after the previous one.
    letters = iter(name)
    return all(letter in letters for letter in short)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """Return the settings that differ between two nested configs, as {dotted name: "old -> new"}."""
    before = flatten(old)
    after = flatten(new)
    return {
        name: f"{before.get(name)!r} -> {after.get(name)!r}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }


def _shorten(value: Any) -> str:
    """Return a value as text of at most `LONGEST_VALUE` characters; huge numbers have no decimal text in Python."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "a value that is too large to show"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def describe_errors(error: ValidationError) -> str:
    """Return a pydantic error as text with one line per field: its name, what is allowed, and the value given."""
    lines = []
    for problem in error.errors():
        # Pydantic adds parts such as "function-after[...]" to the location; a user does not know them.
        name = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        value = "" if problem["type"] == "value_error" else f" (given: {_shorten(problem['input'])})"
        message = f"{problem['msg'].removeprefix('Value error, ')}{value}"
        lines.append(f"{name}: {message}" if name else message)
    more = len(lines) - MOST_ERRORS
    return "\n".join([*lines[:MOST_ERRORS], *([f"and {more:,} more"] if more > 0 else [])])
