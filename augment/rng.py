"""Random streams by name: (seed, task ID, purpose) come in, a generator of its own goes out.

What one task draws depends on no other task, on no order of files and on no number of workers.
"""

from hashlib import sha256

import numpy as np


def task_rng(seed: int, task_id: str, purpose: str = "") -> np.random.Generator:
    """The generator of this task for this purpose; the same three always draw the same numbers."""
    name = f"{seed}:{task_id}:{purpose}" if purpose else f"{seed}:{task_id}"
    digest = sha256(name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
