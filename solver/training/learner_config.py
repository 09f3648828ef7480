"""Settings of the learner, as plain values."""

from dataclasses import dataclass

from solver.model.config import EVIDENCE, Curriculum, EvidenceConfig, IdOptimizerName, LossName, OptimizerName, Schedule


@dataclass(frozen=True)
class LearnerConfig:
    """Rates, decays and schedule; the defaults are those published. ema_decay None: no average is kept.

    curriculum: (share of the steps, h_cycles, l_cycles), fewer cycles until that share is done
    micro_batch: run no more cells at once than so many full boards have; None: all slots
    scale_loss: keep small gradients from vanishing in half precision (fp16)
    ids_only: for this share of the steps only ID rows learn; weights, their average and optimizers stay as they are
    evidence: how the bound on the evidence is weighed, where noise is learnt
    id_optimizer: of the ID rows, descent by signs or Adam (`TableAdam`) with `betas`
    schedule, decay: see `scheduled_rate`; loss, label_smoothing, halting_loss: see `LossConfig`
    average_warmup: the decay of the average grows from step to step (`MovingAverage.growing_decay`)
    corrupted, corruption: share of new examples that start at a corrupted target, and how far (`corrupt_starts`)
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
