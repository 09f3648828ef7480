"""The pipeline's stages and command line, with their files, devices and time budget.

Importing this package makes OpenMP's waiting threads sleep, unless OMP_WAIT_POLICY is set. Otherwise they spin, and
another process on the same cores makes training many times slower (docs/lab_notebook.md). The variable is set here
because torch reads it when it is imported.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
