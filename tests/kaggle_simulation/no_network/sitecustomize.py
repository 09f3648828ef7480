"""Python started with this folder on PYTHONPATH reaches no other machine, and names of machines lead nowhere."""

import socket
from typing import Any

LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _refuse(address: Any) -> None:
    if isinstance(address, tuple) and not str(address[0]).startswith(LOCAL):
        raise OSError(101, "Network is unreachable")


class LocalSocket(socket.socket):
    """A socket that connects to this machine only."""

    def connect(self, address: Any) -> None:
        """As ever, for local addresses."""
        _refuse(address)
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        """As ever, for local addresses."""
        _refuse(address)
        return super().connect_ex(address)


socket.socket = LocalSocket
