"""The folder of golden files; a part that a set lacks skips the test that asks for it, with the reason."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("ARC_TRM_GOLDEN", Path(__file__).parent / "golden"))


@cache
def read_json(name: str) -> dict[str, Any]:
    """A JSON file of the set; empty where there is none."""
    file = FOLDER / name
    return json.loads(file.read_text()) if file.exists() else {}


def pipeline_part(name: str) -> Any:
    """A part of the data pipeline's golden results."""
    golden = read_json("pipeline_golden.json")
    if name not in golden:
        pytest.skip(f"this set has no {name} in pipeline_golden.json")
    return golden[name]


def need(file: Path) -> Path:
    """A file of the set."""
    if not file.exists():
        pytest.skip(f"this set has no {file.name}")
    return file
