"""The stages of the pipeline and its command line; files, devices, clocks.

Importing it makes OpenMP's threads sleep while they wait, unless OMP_WAIT_POLICY is set. They spin otherwise, and
another process on the same cores then makes training many times slower (docs/lab_notebook.md). torch reads the variable
when it is imported.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
