"""The models of a golden set: settings, and what the published code computed with them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.checkpoints.convert_trm import check_weights, infer_config, read_published
from solver.data.batch import Batch
from solver.model.model import RecursiveModel
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.learner import Learner, LearnerConfig
from tests.helpers.golden_set import FOLDER, need, read_json

GRADIENTS, ID_VALUES, WEIGHTS, AVERAGES = 5e-6, 1e-5, 1e-5, 1e-6


ACTIVATIONS, MLP_GROWTH = 1e-4, 8.0
"""Off by no more in the first two steps; and so many times more at each step of TRM-MLP after them."""


@dataclass(frozen=True)
class Golden:
    """One model of a set: its settings, and what the published code computed with it."""

    name: str
    settings: dict[str, Any]
    io: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        return self.settings["config"]

    @property
    def id_slots(self) -> int:
        """The length given, else as many slots as the ID vector needs."""
        given = self.settings.get("puzzle_emb_len") or self.config.get("puzzle_emb_len")
        return given or -(-self.config["puzzle_emb_ndim"] // self.config["hidden_size"])

    def allowed(self, step: int) -> float:
        """How far logits, latents and losses may be off at a step."""
        return ACTIVATIONS * (MLP_GROWTH if self.config.get("mlp_t") else 1.0) ** max(0, step - 2)

    def file(self, kind: str) -> Path:
        return need(FOLDER / f"{self.name}.{kind}.safetensors")

    def steps(self, stage: str, part: str) -> list[int]:
        """The numbers of the steps for which the set holds `part`."""
        found = (re.fullmatch(rf"{stage}\.step(\d+)\.{re.escape(part)}", key) for key in self.io)
        steps = sorted(int(match[1]) for match in found if match)
        if not steps:
            pytest.skip(f"{self.name} has no {stage} {part}")
        return steps

    def batch(self, number: int) -> Batch:
        inputs, labels, puzzles = (
            self.io[f"batch{number}.{part}"].long() for part in ("inputs", "labels", "puzzle_identifiers")
        )
        return Batch(inputs, labels.clamp(min=0), torch.arange(inputs.shape[1]).expand_as(inputs), puzzles)

    def build(self, precision: torch.dtype = torch.float32) -> tuple[RecursiveModel, PuzzleEmbedding]:
        """The published initial weights, through the converter."""
        file = self.file("weights_init")
        weights, id_rows = read_published(file)
        assert id_rows is not None
        settings = self.config
        config = infer_config(
            weights,
            id_rows,
            heads=settings["num_heads"],
            expansion=float(settings["expansion"]),
            h_cycles=settings["H_cycles"],
            l_cycles=settings["L_cycles"],
            id_slots=self.id_slots,
            board_side=round(settings["seq_len"] ** 0.5),
            max_steps=settings["halt_max_steps"],
            exploration=settings["halt_exploration_prob"],
            rope_theta=settings["rope_theta"],
            rms_epsilon=settings["rms_norm_eps"],
        )
        check_weights(weights, config, file)
        model = RecursiveModel(config)
        model.load_state_dict(weights)
        table = PuzzleEmbedding(id_rows.shape[0], id_rows.shape[1])
        table.weights_PI = id_rows.to(precision)
        model.precision = precision
        return model.to(precision), table

    def learner(self, precision: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Learner:
        """A learner of `build` with the set's hyperparameters, before its first step."""
        hyper = read_json("model_golden.json")["hyper"]
        model, table = self.build(precision)
        table.to(device, precision)
        config = LearnerConfig(
            lr=hyper["lr"],
            weight_decay=hyper["wd"],
            betas=tuple(hyper["betas"]),
            id_lr=hyper["emb_lr"],
            id_weight_decay=hyper["emb_wd"],
            warmup=0,
            ema_decay=hyper["ema"],
        )
        return Learner(model.to(device), table, config)


def load(name: str) -> Golden:
    return Golden(
        name,
        read_json("model_golden.json")["models"][name],
        load_file(need(FOLDER / f"{name}.io.safetensors")),
    )


MODELS = sorted(read_json("model_golden.json").get("models", {})) or ["trm"]


def check(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Equal within an absolute tolerance; a failure says what differs and by how much."""
    difference = (actual.double() - expected.double()).abs().max().item()
    assert actual.shape == expected.shape
    assert difference <= tolerance, f"{what}: off by {difference:.3g}, allowed {tolerance:g}"
