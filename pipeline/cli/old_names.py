"""Names of version 0.1 that users may have in scripts: they keep working until version 0.3 and are not listed."""

from collections.abc import Sequence

COMMANDS = {"trunk": "backbone"}
OPTIONS = {
    "--run": "--run-dir",
    "--run-folder": "--run-dir",
    "--trunk": "--backbone",
    "--trunk-only": "--backbone-only",
}


def with_new_names(words: Sequence[str]) -> list[str]:
    """A command line with commands and options as they are called now."""
    if not words:
        return []
    command, *rest = words
    renamed = [COMMANDS.get(command, command)]
    for word in rest:
        option, equals, value = word.partition("=")
        renamed.append(OPTIONS.get(option, option) + equals + value)
    return renamed
