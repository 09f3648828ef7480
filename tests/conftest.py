"""Settings for all tests, and the marker `gpu`."""

import os

import pytest
from hypothesis import settings

from tests.helpers.gpu_marker import asks_for_gpu

# Compiling a kernel or a busy machine would break any time limit for a single example.
settings.register_profile("arc-trm", deadline=None)
settings.load_profile("arc-trm")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs, before torch looks for them, from this process and all that tests start, unless `-m gpu` is given.

    Otherwise tests of exact values would compute on a GPU, and tests of two processes would share one.
    """
    if not asks_for_gpu(config.getoption("markexpr") or ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that wants a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU: make test-gpu")
