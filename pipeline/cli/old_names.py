"""Command-line names of version 0.1, for old scripts: they work until version 0.3 and are not listed by --help."""

from collections.abc import Sequence

COMMANDS = {"trunk": "backbone"}
OPTIONS = {
    "--run": "--run-dir",
    "--run-folder": "--run-dir",
    "--trunk": "--backbone",
    "--trunk-only": "--backbone-only",
}


def with_new_names(words: Sequence[str]) -> list[str]:
    """Return a command line with old names of commands and options replaced by current ones."""
    if not words:
        return []
    command, *rest = words
    renamed = [COMMANDS.get(command, command)]
    for word in rest:
        option, equals, value = word.partition("=")
        renamed.append(OPTIONS.get(option, option) + equals + value)
    return renamed
