"""A headless Chromium found on PATH, driven over the DevTools protocol through two pipes.

In: pages on disk. Out: what their scripts evaluate to, screenshots, and all that went wrong or was asked for.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from base64 import b64decode
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--remote-debugging-pipe", "--force-color-profile=srgb", "--hide-scrollbars", "--disable-dev-shm-usage"),
)
LAUNCH = """
import fcntl, os, sys
# Chromium wants its pipes at 3 and 4; copies in between, for either may stand there already.
copies = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
for copy, place in zip(copies, (3, 4)):
    os.dup2(copy, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
SECONDS = 20
SPECIAL_KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def find_chromium() -> str | None:
    """The program's path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser(AbstractContextManager):
    """One page in one browser. `errors`: what it complained of; `requests`: every address it asked for."""

    def __init__(self, program: str):
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number, self._rest, self._session = 0, b"", None
        self._profile = TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        launch = [sys.executable, "-IS", "-c", LAUNCH, str(commands), str(answers)]
        launch += [program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(launch, pass_fds=(commands, answers), stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        pages = self.call("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __exit__(self, *_: object) -> None:
        """End the browser, as it does when its pipes close."""
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; RuntimeError where it is refused."""
        number = self._send(method, parameters)
        while (message := self._receive()).get("id") != number:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page, or another place in it, from the beginning."""
        self.call("Page.navigate", url="about:blank")
        self.errors.clear()
        self.requests.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, script: str) -> Any:
        """What an expression, or the promise it makes, comes to; RuntimeError where it throws."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Return once an expression is true; TimeoutError where it never is."""
        end = time.monotonic() + SECONDS
        while not self._holds(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def _holds(self, condition: str) -> bool:
        try:
            return self.evaluate(f"!!({condition})")
        except RuntimeError as error:
            if "navigated or closed" in str(error):  # the page is being replaced by another
                return False
            raise

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = SPECIAL_KEYS.get(key, 0)
        text = {} if key in SPECIAL_KEYS and key != "Enter" else {"text": "\r" if key == "Enter" else key}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def resize(self, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        """Another window, another colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        return b64decode(self.call("Page.captureScreenshot")["data"])

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self) -> dict[str, Any]:
        """The next message; what the page complains of and asks for is kept."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], SECONDS)
            if not ready or not (part := os.read(self._read, 1 << 20)):
                raise RuntimeError("the browser has gone, or says nothing")
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(text)
        self._keep(message.get("method"), message.get("params", {}))
        return message

    def _keep(self, event: str | None, about: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        complaint = event == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert")
        if complaint or event in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.errors.append(json.dumps(about))
