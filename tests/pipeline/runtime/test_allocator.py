"""Torch's CUDA allocator is told to use expandable segments before torch is imported, unless the user has set it."""

import os
import subprocess
import sys

import pytest

from pipeline import ALLOCATOR_OPTIONS, ALLOCATOR_VARIABLES
from pipeline.runtime.launcher import child_environment
from tests.helpers.paths import ROOT

SCRIPT = """
import os, runpy, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("PYTORCH_CUDA_ALLOC_CONF"), os.environ.get("PYTORCH_ALLOC_CONF"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Finder())
runpy.run_module(sys.argv[1], run_name="__main__")
"""


def variables_at_import_of_torch(module: str, **settings: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR_VARIABLES} | settings
    command = [sys.executable, "-c", SCRIPT, module]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.mark.parametrize("module", ["pipeline.worker", "pipeline.solve", "pipeline.runtime.launched_module"])
def test_it_is_set_before_torch_is_imported(module: str) -> None:
    assert variables_at_import_of_torch(module) == f"{ALLOCATOR_OPTIONS} None"


def test_what_the_user_has_set_stays() -> None:
    own = "backend:cudaMallocAsync"
    assert variables_at_import_of_torch("pipeline.worker", PYTORCH_CUDA_ALLOC_CONF=own) == f"{own} None"
    assert variables_at_import_of_torch("pipeline.worker", PYTORCH_ALLOC_CONF=own) == f"None {own}"
    assert variables_at_import_of_torch("pipeline.worker", PYTORCH_CUDA_ALLOC_CONF="") == "None"


def test_launched_processes_inherit_it() -> None:
    environment = child_environment()
    assert any(environment.get(name) for name in ALLOCATOR_VARIABLES)
