"""Settings for all tests."""

from hypothesis import settings

# Compiling a kernel or a busy machine would break any time limit for a single example.
settings.register_profile("arc-trm", deadline=None)
settings.load_profile("arc-trm")
