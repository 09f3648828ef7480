"""The pipeline's stages and command line, with their files, devices and time budget.

Every command, worker and notebook imports this package before torch computes on a GPU, when torch reads the setting of
its allocator that is made here.
"""

import os

ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""Environment variables of torch's allocator on GPUs; torch 2.8 knows the first one, and the last one on ROCm."""
ALLOCATOR_OPTIONS = "expandable_segments:True"
"""Chunks differ in size from step to step. With segments of fixed sizes the memory between them could not be used."""

if not any(name in os.environ for name in ALLOCATOR_VARIABLES):
    os.environ[ALLOCATOR_VARIABLES[0]] = ALLOCATOR_OPTIONS
