"""The code that torch.compile writes for a network is accepted by Triton and ptxas for the cards that people have.

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


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    ("capability", "dtype", "graphs"), [(90, "bfloat16", 3), (89, "float16", 3), (75, "float16", 6)]
)
def test_every_kernel_of_a_network_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: int, dtype: str, graphs: int
) -> None:
    """An H100, an L4 and a T4, in half precision; nothing is taken from an earlier compilation.

    There is a graph without gradient, one with it, and a backward one: of the whole network, or on a T4, which has no
    variable-length attention, of each of the two parts of a block.
    """
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    command = [sys.executable, "-m", "tests.helpers.cubins", str(capability), dtype]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    cubins = json.loads(ended.stdout)
    assert len(cubins) == graphs
    assert all(cubins), "a graph without a kernel was not compiled"
    assert all(size > 0 for graph in cubins for size in graph.values())
