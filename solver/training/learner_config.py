"""Settings of the learner, as plain values."""

from dataclasses import dataclass

from solver.model.config import EVIDENCE, Curriculum, EvidenceConfig, IdOptimizerName, LossName, OptimizerName, Schedule


@dataclass(frozen=True)
class LearnerConfig:
    """Learning rates, decays and schedule; the defaults are the published values.

    ema_decay: decay of the moving average of the weights; None: no average is kept
    optimizer, muon_lr: see `make_optimizers`
    curriculum: stages (share of the steps, h_cycles, l_cycles), each with its cycles until that share is done
    micro_batch: run at most as many positions at once as this number of full boards has; None: all slots
    scale_loss: scale the loss so that small gradients do not underflow in half precision (fp16)
    ids_only: for this share of the steps only ID rows learn; weights, average and optimizer state do not change
    evidence: weights of the evidence lower bound with learnt noise
    id_optimizer: optimizer of the ID rows, sign-SGD ("sign") or Adam (`TableAdam`) with `betas`
    warmup, total_steps, min_ratio, schedule, decay: see `scheduled_rate`
    loss, label_smoothing, halting_loss: see `LossConfig`
    average_warmup: the decay of the average grows from step to step (`MovingAverage.growing_decay`)
    corrupted, corruption: share of new examples that start from a corrupted target, and the range of the share of
        their labels that is replaced (`corrupt_starts`)
    """

    lr: float = 1e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    id_lr: float = 1e-2
    id_weight_decay: float = 0.1
    warmup: int = 2000
    total_steps: int = 500_000
    min_ratio: float = 1.0
    ema_decay: float | None = 0.999
    seed: int = 0
    optimizer: OptimizerName = "adam_atan2"
    muon_lr: float = 1e-4
    curriculum: Curriculum = ()
    micro_batch: int | None = None
    scale_loss: bool = False
    ids_only: float = 0.0
    evidence: EvidenceConfig = EVIDENCE
    id_optimizer: IdOptimizerName = "sign"
    schedule: Schedule = "cosine"
    decay: float = 0.2
    loss: LossName = "stablemax"
    label_smoothing: float = 0.0
    halting_loss: float = 0.5
    average_warmup: bool = False
    corrupted: float = 0.0
    corruption: tuple[float, float] = (0.3, 1.0)
