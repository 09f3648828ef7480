"""The code that torch.compile writes for a block is accepted by Triton and ptxas for the cards that people have.

No card is needed, but a torch built for CUDA, which brings both. What kernels compute, and how fast, is not shown.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.helpers.paths import ROOT

GRAPHS = 6
"""Two parts of a block, each without gradient, with it, and backward."""


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(("capability", "dtype"), [(90, "bfloat16"), (89, "float16"), (75, "float16")])
def test_every_kernel_of_a_block_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: int, dtype: str
) -> None:
    """An H100, an L4 and a T4, in half precision; nothing is taken from an earlier compilation."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    command = [sys.executable, "-m", "tests.helpers.cubins", str(capability), dtype]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    graphs = json.loads(ended.stdout)
    assert len(graphs) == GRAPHS
    assert all(graphs), "a graph without a kernel was not compiled"
    assert all(size > 0 for graph in graphs for size in graph.values())
