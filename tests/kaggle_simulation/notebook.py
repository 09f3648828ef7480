"""Run a notebook from its first to its last cell, as Kaggle does: where it stands, with its outputs kept.

    python tests/kaggle_simulation/notebook.py NOTEBOOK OUT

Exit code 1, and the error in words, where a cell fails; OUT is written all the same.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main(notebook: Path, out: Path) -> None:
    """Execute the notebook in the working folder."""
    cells = nbformat.read(notebook, as_version=4)
    try:
        NotebookClient(cells, timeout=None, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    except CellExecutionError as error:
        sys.exit(str(error))
    finally:
        nbformat.write(cells, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
