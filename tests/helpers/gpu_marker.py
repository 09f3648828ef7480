"""Whether a run of the tests is for a GPU."""

import re


def asks_for_gpu(expression: str) -> bool:
    """Return whether pytest's option `-m` selects tests with the marker `gpu` by name.

    expression: as "gpu" or "gpu and not slow"; the marker is not asked for by "not gpu", or by leaving it out
    """
    return re.search(r"(?<!not )\bgpu\b", expression) is not None
