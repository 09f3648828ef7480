"""Commands of the command line, in this process or in several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import main
from tests.helpers.paths import ROOT

SHORT = ["--set", "train.steps=4"]


SMALL = [*SHORT, "--set", "puzzles.augmentations=2"]


def run(*arguments: str | Path) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command says when it refuses, as one line."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 2, captured
    assert "Traceback" not in captured.err + captured.out
    assert len(captured.err.splitlines()) < 25, "more than a screen"
    return " ".join(captured.err.split())


def launch(processes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in several processes, started by torchrun."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", "pipeline"]
    return subprocess.run([*words, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def launch_script(processes: int, script: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A script that changes something and then is the command line, in several processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes, script, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment
    )
