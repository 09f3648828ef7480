"""The folder of golden files; a part that a set lacks skips the test that asks for it, with the reason."""

import json
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.paths import GOLDEN

FOLDER = Path(os.environ.get("ARC_TRM_GOLDEN", GOLDEN))
GRADIENT = "train.step1.gradient."


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


@dataclass(frozen=True)
class SymbolRows:
    """The published SE-RRM: a model on (cell, symbol) rows, its settings, and what the published code computed.

    about: tests/golden/se_rrm.json, which describes every tensor and names the commit
    weights: parameters and buffers as initialised, float32, under their published names without `model.inner.`
    figures: inputs and labels (example, cell), identifiers (example,), all int64; then `eval.step1.logits` and the like
    gradients: of loss / about["batch_divisor"] at the first training step, by the name of the weight; of the MLP only
        every fourth row (gate_up_proj) or column (down_proj)
    """

    about: dict[str, Any]
    weights: dict[str, Tensor]
    figures: dict[str, Tensor]
    gradients: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        """The published names of the settings, and their values."""
        return self.about["config"]


@cache
def se_rrm_part() -> SymbolRows:
    """The golden results of SE-RRM (arXiv 2603.02193); skips the test where the set has none."""
    weights, figures, gradients = {}, {}, {}
    for name, tensor in load_file(need(FOLDER / "se_rrm.safetensors")).items():
        if name.startswith("weights."):
            weights[name.removeprefix("weights.")] = tensor.float()
        elif name.startswith(GRADIENT):
            gradients[name.removeprefix(GRADIENT)] = tensor
        else:
            figures[name] = tensor.long() if tensor.dtype == torch.uint8 else tensor
    return SymbolRows(read_json("se_rrm.json"), weights, figures, gradients)


def need(file: Path) -> Path:
    """A file of the set."""
    if not file.exists():
        pytest.skip(f"this set has no {file.name}")
    return file


def read_board(sequence: str) -> np.ndarray:
    """Tokens (side, side) of a board written as one hex digit a cell."""
    side = math.isqrt(len(sequence))
    return np.array([int(digit, 16) for digit in sequence], np.uint8).reshape(side, side)
