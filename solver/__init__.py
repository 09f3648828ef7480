"""Batches in, logits out: recursive model, loss, optimizers, supervision. Knows no files."""

from solver.batches import Batch
from solver.ema import MovingAverage
from solver.embedding import IdTable
from solver.learner import Learner, LearnerConfig, NotFiniteError, StepResult
from solver.loss import Losses, losses
from solver.model import ModelConfig, Output, RecursiveModel
from solver.optim import AdamAtan2, scheduled_rate
from solver.processes import Processes
from solver.recursion import Latents
from solver.supervision import Carry, predict_steps

__all__ = [
    "AdamAtan2",
    "Batch",
    "Carry",
    "IdTable",
    "Latents",
    "Learner",
    "LearnerConfig",
    "Losses",
    "ModelConfig",
    "MovingAverage",
    "NotFiniteError",
    "Output",
    "Processes",
    "RecursiveModel",
    "StepResult",
    "losses",
    "predict_steps",
    "scheduled_rate",
]
