"""Settings by dotted name: flat, compared, found by a name that is nearly theirs, and in words where they are wrong."""

import difflib
from typing import Any

from pydantic import ValidationError


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting by the dotted name that `--set` knows."""
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def nearest_names(name: str, known: list[str]) -> list[str]:
    """The three names most like this one, those in the same group first, and of them what it is short for."""
    group = name.rpartition(".")[0]
    return sorted(known, key=lambda other: (
        other.rpartition(".")[0] != group,
        not _is_short_for(other, name),
        -difflib.SequenceMatcher(None, name, other).ratio(),
    ))[:3]  # fmt: skip


def _is_short_for(short: str, name: str) -> bool:
    """Whether all letters of `short` occur in `name` in their order."""
    letters = iter(name)
    return all(letter in letters for letter in short)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """The settings that differ: dotted name -> "old -> new"."""
    before = flatten(old)
    after = flatten(new)
    return {
        name: f"{before.get(name)!r} -> {after.get(name)!r}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }


def describe_errors(error: ValidationError) -> str:
    """A pydantic error in one line a field: what, allowed, given."""
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
        given = "" if problem["type"] == "value_error" else f" (given: {problem['input']!r})"
        said = f"{problem['msg'].removeprefix('Value error, ')}{given}"
        lines.append(f"{name}: {said}" if name else said)
    return "\n".join(lines)
