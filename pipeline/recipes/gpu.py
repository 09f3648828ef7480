"""Recipes for GPUs: ARC-AGI's evaluations and Kaggle's. None has been run by us; durations are calculated."""

from typing import Any

from pipeline.config.run_config import PuzzleSettings, RunConfig, TrainSettings, UnattendedSettings
from pipeline.recipes.small import SYMBOLS, vary
from solver.model.config import EvidenceConfig, ModelConfig
from solver.model.equations import GRAM, UNIVERSAL


def arc1() -> RunConfig:
    """Train on ARC-AGI-1's public evaluation (400 tasks), its training set and ConceptARC, with the published settings.

    python -m pipeline solve --recipe arc1          published: training about 3 days on 4 H100; not run by us

    Several GPUs: `build`, then `accelerate launch -m pipeline train --recipe arc1` (`docs/training.md`). The 875,418
    puzzle embeddings take 1.8 GB, in memory and in every checkpoint. Every setting is the published one; a train task
    that overlaps with a scored one is left out.

    Expect a macro pass@2 of 41% to 44%. Published are 44.6% with the votes of all checkpoints pooled and 44.4% for
    single checkpoints; reproductions by others have 41.0% and 43.0%.
    """
    return RunConfig(
        recipe="arc1",
        source="arc-agi-1/evaluation",
        train_sources=("arc-agi-1/training", "concept"),
        train=TrainSettings(steps=518_226, checkpoint_every=2000),
    )


def arc2() -> RunConfig:
    """Train on ARC-AGI-2's public evaluation (GitHub's version: 120 tasks, 167 test outputs), with published settings.

    python -m pipeline solve --recipe arc2          about 4 days on 4 H100, from arc1's published 3; not run by us

    It is `arc1` with ARC-AGI-2's training set. The number of steps is that of the published 100,000 epochs of 5,574
    pairs each. The 1,191,740 puzzle embeddings take 2.4 GB.

    Expect a macro pass@2 of 3% to 5%. Published are 7.8% with the votes of all checkpoints pooled and 4.6% for single
    checkpoints; reproductions by others have 2.9% and 3.3%.
    """
    return RunConfig(
        recipe="arc2",
        source="arc-agi-2/evaluation",
        train_sources=("arc-agi-2/training", "concept"),
        train=TrainSettings(steps=725_781, checkpoint_every=2000),
    )


SERRM: dict[str, Any] = {
    **SYMBOLS,
    "hidden": 256,
    "heads": 4,
    "symbol_heads": 2,
    "recursion": UNIVERSAL,
    "canvas": "task",
}
"""SE-RRM at the published size of 2 million weights (arXiv 2603.02193), but on task canvases with task palettes."""

SERRM_TRAINING: dict[str, Any] = {
    "batch_size": 768,
    "lr": 5e-4,
    "min_ratio": 0.1,
    "id_weight_decay": 0.3,
    "checkpoint_every": 500,
}
"""Learning rates and decays of SE-RRM's authors, with a batch 2.8 times as large as theirs (272)."""


def arc1_fast() -> RunConfig:
    """Train on ARC-AGI-1's public evaluation on one GPU with a symbol axis (SE-RRM); not run by us.

    python -m pipeline solve --recipe arc1_fast     about 3 hours on an H100, if it trains at 300 TFLOP/s

    The hours are calculated (`pipeline.training.flop`). An example takes 212 GFLOP on task canvases with task palettes;
    the whole board and vocabulary would take 1,250. 20,000 steps of 768 examples are 3.3e18 FLOP and visit each of the
    3,985 pairs 3,850 times. `arc1_fast_trm` takes 1.2e19 FLOP for 30,800 visits of each pair; mdlARC reaches 44% with
    650 visits (3.7e17 FLOP). SE-RRM's authors publish 45.3%, with 8 transforms in place of 1000 augmentations and 2
    million weights. The gain per visit was measured on small tasks only (`docs/lab_notebook.md`).

    --set train.hold_out=40 gives a learning curve (`held_out_exact` in metrics.jsonl) on one demonstration each of 40
    tasks, which are then left out of training.
    """
    return RunConfig(
        recipe="arc1_fast",
        source="arc-agi-1/evaluation",
        train_sources=("arc-agi-1/training", "concept"),
        puzzles=PuzzleSettings(ids="transform", augmentations=7),
        model=ModelConfig(**SERRM),
        train=TrainSettings(steps=20_000, **SERRM_TRAINING),
    )


def arc1_fast_trm() -> RunConfig:
    """Train TRM on ARC-AGI-1's public evaluation on one GPU, with published ways to save operations; not run by us.

    python -m pipeline solve --recipe arc1_fast_trm     about 11 hours on an H100, if it trains at 300 TFLOP/s

    The hours are calculated: 94 GFLOP an example, the full canvas's times 0.32 for fewer cells and 0.75 for fewer
    cycles. Others published three savings that cost little accuracy, each by itself and never all together:

    - 300 augmentations are enough in training (ARC Prize's analysis of HRM);
    - batch 3072 at a rate of 3e-4 is on par with 768 at 1e-4 (NVARC);
    - starting with few cycles saves a factor of 1.7 to 2.3 on Sudoku.

    Task canvases are our own addition. 40,000 steps visit each augmented puzzle as often as published, which is 0.3 of
    the published examples; train.steps=130000 gives all of them. Expect less than the 41% to 44% of `arc1`; the
    difference has not been measured.

    --set train.hold_out=40 gives a learning curve (`held_out_exact` in metrics.jsonl) on one demonstration each of 40
    tasks, which are then left out of training. train.optimizer=muon is untested here; it is reported to help related
    models (URM on ARC-AGI-2, mdlARC).
    """
    return RunConfig(
        recipe="arc1_fast_trm",
        source="arc-agi-1/evaluation",
        train_sources=("arc-agi-1/training", "concept"),
        puzzles=PuzzleSettings(augmentations=300),
        model=ModelConfig(canvas="task"),
        train=TrainSettings(
            steps=40_000,
            batch_size=3072,
            lr=3e-4,
            curriculum=((0.3, 1, 2), (0.6, 2, 4)),
            checkpoint_every=500,
        ),
    )


def arc1_fast_urm() -> RunConfig:
    """`arc1_fast_trm` with URM: four blocks, two cycles of six updates, one cycle with gradient; not run by us.

    python -m pipeline solve --recipe arc1_fast_urm

    Cycles and layers are those of the authors' script for ARC-AGI-1, which reaches 53.8% pass@1 with 200,000 epochs on
    8 GPUs. All other settings are those of `arc1_fast_trm`, so that the two can be compared.
    """
    return vary(
        arc1_fast_trm(), "arc1_fast_urm", recursion=UNIVERSAL, mlp="conv_swiglu", layers=4, h_cycles=2, l_cycles=6
    )


def arc1_fast_gram() -> RunConfig:
    """`arc1_fast_trm` with GRAM, and four trajectories of each augmentation; not run by us.

    python -m pipeline solve --recipe arc1_fast_gram

    The weight of the KL term is the published one for ARC-AGI-1; its unit is not published. The authors report 52.0%
    on 8 GPUs.
    """
    config = vary(arc1_fast_trm(), "arc1_fast_gram", recursion=GRAM)
    train = config.train.model_copy(update={"evidence": EvidenceConfig(kl_weight=0.04)})
    predict = config.predict.model_copy(update={"trajectories": 4})
    return config.model_copy(update={"train": train, "predict": predict})


def kaggle() -> RunConfig:
    """Solve hidden tasks within a time limit: fine-tune a pretrained backbone on their demonstrations, then predict.

    python -m pipeline solve --recipe kaggle --checkpoint BACKBONE --budget 11h50m FILE     4 L4; not run there by us

    `docs/kaggle.md` describes how to run it on Kaggle. It trains as many steps as fit into the time. Others published
    scores of this method on ARC-AGI-2's hidden tasks, from their own backbones:

    - NVARC 7.5 and 10.0% (2000 and 4000 epochs, batch 128, 1e-4, warm-up 200, 128 augmentations, 10 supervision steps
      at prediction);
    - Trelis 6.67% (batch 384, only puzzle embeddings trained in the first quarter).

    The backbone decides the network, its loss, and which puzzles share an embedding. Without a backbone the published
    network is trained from scratch.
    """
    return RunConfig(
        recipe="kaggle",
        source="kaggle-2025/test",
        puzzles=PuzzleSettings(augmentations=128),
        model=ModelConfig(canvas="task"),
        train=TrainSettings(
            steps=1_000_000,
            fit=True,
            batch_size=128,
            lr=1e-4,
            warmup=200,
            min_ratio=0.1,
            checkpoint_every=500,
        ),
        unattended=UnattendedSettings(),
    )


def kaggle_backbone() -> RunConfig:
    """Pretrain the backbone for the recipe `kaggle` on every pair of ARC-AGI-2's training set and ConceptARC.

    python -m pipeline pretrain --recipe kaggle_backbone --out BACKBONE     about 5 hours on an H100, at 300 TFLOP/s

    Not run by us; the hours are calculated. With a symbol axis an example takes 256 GFLOP; 26,000 steps of 768 are
    5.1e18 FLOP. They visit each of the 5,215 pairs 3,830 times, about as often as `arc1_fast`. `--train FOLDER` adds
    your own tasks, which need more steps in proportion (--set train.steps=N). On several GPUs:
    `accelerate launch -m pipeline pretrain ... --run-dir RUN`.

    Kaggle's public evaluation, and every train task that overlaps with it, is left out of training. So
    `solve kaggle-2025/evaluation --recipe kaggle --checkpoint BACKBONE` scores unseen tasks. Used as a recipe of
    `solve`, it trains on the demonstrations of that evaluation too, as `arc2` does.
    """
    return RunConfig(
        recipe="kaggle_backbone",
        source="kaggle-2025/evaluation",
        train_sources=("kaggle-2025/training", "concept"),
        puzzles=PuzzleSettings(ids="transform", augmentations=7),
        model=ModelConfig(**SERRM),
        train=TrainSettings(steps=26_000, **SERRM_TRAINING),
    )
