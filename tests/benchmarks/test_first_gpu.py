"""The script for a first GPU, with a stand-in for Python: its commands, in their order, are those that there are."""

import importlib
import os
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from pipeline.cli.main import app
from pipeline.config.run_config import override, parse_assignments
from pipeline.recipes.registry import recipe
from tests.helpers.paths import ROOT

SCRIPT = ROOT / "benchmarks" / "first_gpu.sh"
STAND_IN = """#!/bin/sh
echo "$*" >> "$CALLS"
echo "resumed at step 10"
case "$*" in *"$FAILS"*) exit 3 ;; esac
"""


def run_script(
    folder: Path, *arguments: str, fails: str = "no command"
) -> tuple[subprocess.CompletedProcess, list[str]]:
    """Run the script; returns its end, and the arguments of every call of Python."""
    python = folder / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    own = {"OUT": folder / "out", "WORK": folder / "work", "PYTHON": python, "CALLS": folder / "calls", "FAILS": fails}
    environment = os.environ | {name: str(value) for name, value in own.items()} | {"POLL": "0.05"}
    ended = subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    calls = folder / "calls"
    return ended, calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    ended, calls = run_script(tmp_path_factory.mktemp("all"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "everything held" in ended.stdout
    return calls


def test_its_parts_come_in_order(calls: list[str]) -> None:
    words = [call.removeprefix("-m ").removeprefix("benchmarks.").split() for call in calls]
    names = [" ".join(each[:2]) if each[0] == "pipeline" else each[0] for each in words]
    start = ["check_cuda", "bench_kernels", "bench_train", "bench_train", "pipeline build", "pipeline train"]
    assert names == [*start, "pipeline train", *["pipeline solve"] * 7, "run_budget"]


def test_its_options_and_settings_exist(calls: list[str]) -> None:
    for call in calls:
        _, module, *words = shlex.split(call)
        if module == "pipeline":
            command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        else:
            program = typer.Typer()
            program.command()(importlib.import_module(module).main)
            command = get_command(program)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
        pairs = list(pairwise(words))
        name = next((value for option, value in pairs if option == "--recipe"), "arc1")
        override(recipe(name), parse_assignments([value for option, value in pairs if option == "--set"]))


def test_a_command_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    ended, calls = run_script(tmp_path, "1", fails="bench_kernels")
    assert (ended.returncode, len(calls)) == (1, 3)
    assert "FAILED: kernels;" in ended.stdout


def test_the_budget_is_collected_by_its_own_part(tmp_path: Path) -> None:
    (tmp_path / "work" / "budget").mkdir(parents=True)
    (tmp_path / "work" / "budget" / "score.json").write_text("{}")
    assert run_script(tmp_path, "3")[0].returncode == 0
    ended, calls = run_script(tmp_path, "4")
    assert (ended.returncode, len(calls)) == (0, 1), "part 4 does not start it again"
    assert (tmp_path / "out" / "budget_score.json").read_text() == "{}"


def test_a_budget_that_fails_is_named(tmp_path: Path) -> None:
    run_script(tmp_path, "3", fails="run_budget")
    ended, _ = run_script(tmp_path, "4", fails="run_budget")
    assert ended.returncode == 1
    assert "FAILED: budget;" in ended.stdout


def test_a_part_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    ended, calls = run_script(tmp_path, "5")
    assert (ended.returncode, calls) == (2, [])
    assert ended.stderr == "error: first_gpu.sh 5: no such part; name 1, 2, 3 or 4, or none for all\n"
