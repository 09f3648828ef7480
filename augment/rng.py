"""Create independent random generators, one per (seed, task ID, purpose).

The draws for one task do not depend on other tasks, the order of files, or the number of workers.
"""

from hashlib import sha256

import numpy as np


def task_rng(seed: int, task_id: str, purpose: str = "") -> np.random.Generator:
    """Return the random generator of this task for this purpose; equal arguments give equal draws."""
    name = f"{seed}:{task_id}:{purpose}" if purpose else f"{seed}:{task_id}"
    # SHA-256 and not Python's `hash`, which differs between processes.
    digest = sha256(name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
