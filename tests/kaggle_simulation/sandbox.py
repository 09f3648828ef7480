"""A command comes in, and runs without network, on a read-only input, with a small disk.

Where Linux allows it, that is done by namespaces of network and mounts, which a waiting process holds open: loopback is
up, the input cannot be written, and the scratch folder is a tmpfs of its own. Elsewhere Python's sockets refuse all but
loopback, and input and disk are as they are.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.helpers.paths import ROOT as CHECKOUT
from tests.kaggle_simulation.layout import Kaggle

NO_NETWORK = Path(__file__).parent / "no_network"
HOLD = """
set -e
ip link set lo up
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs -o size="$3" tmpfs "$2"
echo ready
exec cat
"""


def namespaces_allowed() -> bool:
    """Whether this machine lets a process have its own network and mounts, and this program can use them."""
    try:
        hold = ["unshare", "-rmn", "sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /mnt"]
        return subprocess.run(hold, capture_output=True).returncode == 0
    except OSError:
        return False


class Sandbox:
    """A place to run commands in, for one layout.

    Args:
        disk: bytes of the scratch disk.
        namespaces: whether to use them; by default where they are allowed.
    """

    def __init__(self, kaggle: Kaggle, disk: int = 400_000_000, namespaces: bool | None = None):
        self.kaggle, self.disk = kaggle, disk
        self.namespaces = namespaces_allowed() if namespaces is None else namespaces
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Sandbox":
        if self.namespaces:
            places = [str(self.kaggle.input), str(self.kaggle.scratch), str(self.disk)]
            self._holder = subprocess.Popen(
                ["unshare", "-rmn", "sh", "-c", HOLD, "hold", *places],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() != "ready\n":
                raise RuntimeError("the sandbox could not be made")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()

    def start(
        self, words: list[str], environment: dict[str, str], said: Path, checkout: bool = True
    ) -> subprocess.Popen[bytes]:
        """Start Python with these words in the working folder; all that it says goes to a file.

        checkout: whether it finds the packages of this checkout
        """
        paths = [str(CHECKOUT)] * checkout + [str(NO_NETWORK)] * (self._holder is None)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ARC_TRM_", "KAGGLE_"))}
        whole: dict[str, Any] = inherited | {"PYTHONPATH": os.pathsep.join(paths)} | environment
        with said.open("ab") as output:
            return subprocess.Popen(
                [*self._enter(), sys.executable, *words], cwd=self.kaggle.working, env=whole,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _enter(self) -> list[str]:
        """The words that make a command run inside; the process stays the same."""
        if self._holder is None:
            return []
        target = ["-t", str(self._holder.pid), "-U", "-m", "-n", "--preserve-credentials"]
        return ["nsenter", *target, f"--wd={self.kaggle.working}"]

    def outside(self, path: Path) -> Path:
        """Where a path of inside is found from outside."""
        return Path(f"/proc/{self._holder.pid}/root{path}") if self._holder else path
