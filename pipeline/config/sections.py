"""The sections of a run's config: task selection, puzzles, training, prediction, unattended runs.

Each section is a frozen pydantic model that validates its own fields; `pipeline.config.run_config` validates fields of
different sections against each other. An invalid value raises pydantic's ValidationError, which names the field.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from augment import MAX_PAIRS, Draws, Duplicates, FixedColours, OnLeak, Selection
from augment.augmentation import AUGMENTATIONS
from augment.errors import UserError
from augment.logic_puzzles.symmetry import Symmetries, SymmetryName
from augment.schema import LARGEST
from pipeline.time_budget import parse_duration
from solver.data.choices import Visits
from solver.data.puzzle_ids import Ids, needed_draws
from solver.model.config import (
    EVIDENCE,
    LARGEST_SIZE,
    MOST_SUPERVISION_STEPS,
    Curriculum,
    EvidenceConfig,
    IdOptimizerName,
    LossName,
    OptimizerName,
    Schedule,
)
from submissions.rankers import find_ranker

Cycles = Annotated[int, Field(gt=0, le=LARGEST_SIZE)]
LONGEST_TEXT = 4096
"""Characters of the longest path on Linux."""


def _check_ranker_name(name: str) -> str:
    # A ranker file is loaded only when it is used: a checkpoint's config must stay readable after the file is gone.
    if not name.endswith(".py"):
        find_ranker(name)
    return name


def _check_unique_sources(weights: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    sources = [source for source, _ in weights]
    duplicates = sorted({source for source in sources if sources.count(source) > 1})
    if duplicates:
        raise UserError(f"{', '.join(duplicates)} is weighted twice", "give each source one weight")
    return weights


def _check_increasing_passes(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise UserError(f"the shares must grow from one pass to the next and are {shares}", "put them in order")
    return shares


def _check_increasing_stages(curriculum: Curriculum) -> Curriculum:
    shares = [share for share, _, _ in curriculum]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise UserError(f"the shares must grow from one stage to the next and are {shares}", "put them in order")
    return curriculum


def _check_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise UserError(f"the first bound of {bounds} is above the second", "give the lower bound first")
    return bounds


class Settings(BaseModel):
    """Base class of all sections: frozen; unknown names, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_huge(cls, value: Any) -> Any:
        """Refuse numbers that do not fit in 64 bits, which arithmetic cannot take, and texts longer than any path."""
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, int) and not -LARGEST <= part <= LARGEST:
                raise UserError("the number has more than 64 bits", "lower it")
            if isinstance(part, str) and len(part) > LONGEST_TEXT:
                raise UserError(f"the text has {len(part):,} characters", f"give at most {LONGEST_TEXT:,}")
        return value


class PuzzleSettings(Settings):
    """How puzzles are made from tasks, and which of them share a puzzle embedding."""

    augmentations: Annotated[int, Field(ge=0, lt=AUGMENTATIONS)] = 1000
    """augmented puzzles per task, in addition to the original"""
    pairs: Annotated[int, Field(ge=1)] = MAX_PAIRS
    """maximum number of training pairs per task, for tasks with many pairs (RE-ARC); they are drawn by the seed"""
    on_leak: OnLeak = "drop"
    """for a train task that overlaps with a scored one: stop, drop the train task, or allow it and mark every score"""
    duplicates: Duplicates = "keep"
    """for a train task that has the same pairs as another one under a different ID: keep or drop"""
    max_side: Annotated[int, Field(ge=1, le=30)] | None = None
    """leave out train tasks that have a grid with a longer side than this"""
    ids: Ids = "augmentation"
    """what has its own puzzle embedding: each puzzle ("augmentation"), each dihedral transform of a task
    ("transform"), or each task ("task", which needs model.transform_vectors to distinguish the transforms, or
    "shared"); "transform" and "task" draw a new colour permutation at each visit"""
    fixed_colours: FixedColours = "outputs"
    """colours that such a permutation does not change: "outputs" for black and the colours of outputs that no public
    input has, "black" for black only"""
    workers: Annotated[int, Field(ge=1)] = 1

    @property
    def draws(self) -> Draws:
        """Return which augmentations the puzzle set must have for these settings."""
        return needed_draws(self.ids, self.fixed_colours)


class TrainSettings(Settings):
    """How the model is trained. Defaults are the published values, except the number of steps."""

    steps: Annotated[int, Field(ge=1)] = 500_000
    batch_size: Annotated[int, Field(ge=1)] = 768
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    id_lr: Annotated[float, Field(gt=0)] = 1e-2
    id_weight_decay: Annotated[float, Field(ge=0)] = 0.1
    warmup: Annotated[int, Field(ge=0)] = 2000
    fit: bool = False
    """with a time budget: plan as many steps as fit into it, at most `steps`, and scale the learning-rate schedule"""
    ids_only: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the steps, at the start, in which only puzzle embeddings are trained and the weights are frozen"""
    task_steps: Annotated[int, Field(ge=0)] = 0
    """steps of test-time training: after training, each scored task is trained on by itself for so many steps, from
    the trained weights, and predicted with the resulting weights"""
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """learning rate at the last step as a share of its peak; 1 keeps it constant"""
    schedule: Schedule = "cosine"
    """how the rate falls to min_ratio after the warm-up: "cosine", or "wsd" for a constant rate and a linear decay"""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    """with "wsd", the share of the steps, at the end, in which the rate falls"""
    average: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    """decay of the moving average of the weights; null for none"""
    average_warmup: bool = False
    """let that decay grow from a small value, so that the initial weights have little share in a short average"""
    shift: bool = True
    """draw a random place on the board for every example"""
    symmetry: SymmetryName = "none"
    """symmetries of whole boards, for Sudoku and Maze: one is drawn at random for each example"""
    symmetries: Annotated[int, Field(ge=0)] = 1000
    """how many symmetries of each pair to draw from, in addition to the identity"""
    source_weights: Annotated[
        tuple[tuple[str, Annotated[float, Field(ge=0, le=1000)]], ...], AfterValidator(_check_unique_sources)
    ] = ()
    """(source, weight) pairs: the average number of visits per epoch to each task of the source. A source without a
    weight has 1; with weight 0 it is never visited, and the embeddings of its puzzles are not trained"""
    visits: Visits = "tasks"
    """"tasks": an epoch visits each task once and takes all pairs of one of its puzzles; "pairs": every example is
    drawn independently, first a task, then one of its puzzles, then a pair, each uniformly"""
    feed: Literal["all", "halted"] = "all"
    """"all" draws an example for every slot and discards those of slots that have not halted; "halted" draws examples
    for halted slots only"""
    hold_out: Annotated[int, Field(ge=0)] = 0
    """number of tasks of which one demonstration is left out of training, to report the accuracy on it"""
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000
    log_every: Annotated[int, Field(ge=1)] = 50
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """the network's floating-point format; "auto" is bf16 on CUDA devices of compute capability 8.0 or higher, fp16 on
    older ones, else fp32; fp64 is for tests"""
    compile: bool | None = None
    """whether to use torch.compile; null for on CUDA only"""
    attention: Literal["auto", "varlen", "padded"] = "auto"
    """attention over examples of different lengths: "varlen" uses torch's variable-length kernel (CUDA, half
    precision), "padded" pads to few lengths; "auto" is varlen where torch has that kernel"""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """maximum number of cells computed at once, in full boards; gradients are summed; null for the whole batch"""
    optimizer: OptimizerName = "adam_atan2"
    """optimizer of the weights; "muon" and "normuon" update only the blocks' matrices, and Adam-atan2 and AdamW,
    respectively, update the rest"""
    muon_lr: Annotated[float, Field(gt=0)] = 1e-4
    """learning rate of the matrices with Muon and NorMuon; their updates are as large as Adam's at the same rate"""
    id_optimizer: IdOptimizerName = "sign"
    """optimizer of the puzzle embeddings: sign-SGD, or "adam" (with train.betas), whose state is twice the table"""
    loss: LossName = "stablemax"
    """function from logits to probabilities, in training and in all predictions of the trained model"""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the target probability that is spread over all tokens of a cell"""
    halting_loss: Annotated[float, Field(ge=0)] = 0.5
    """weight of the loss of the halting and continue logits; unused with model.halting=random"""
    corrupted: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of new examples that start from a corrupted target instead of the usual initial latents"""
    corruption: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], AfterValidator(_check_bounds)
    ] = (0.3, 1.0)
    """bounds of the share of cells that get a random colour in a corrupted target; each example draws its own share"""
    curriculum: Annotated[
        tuple[tuple[Annotated[float, Field(gt=0, lt=1)], Cycles, Cycles], ...],
        AfterValidator(_check_increasing_stages),
    ] = ()
    """stages (share of the steps, h_cycles, l_cycles): fewer cycles until that share of the steps is done; after the
    last stage the model's own numbers of cycles"""
    evidence: EvidenceConfig = EVIDENCE
    """weights of the evidence lower bound where noise is learnt ("+ e" in model.recursion)"""
    trackers: tuple[str, ...] = ()
    """trackers that accelerate sends the metrics to, in addition to metrics.jsonl: "tensorboard", "wandb" ..."""

    def board_symmetries(self, side: int) -> Symmetries | None:
        """Return the symmetries of whole boards of this side; None where train.symmetry is "none".

        Raises:
            UserError: boards of this side do not have these symmetries.
        """
        return None if self.symmetry == "none" else Symmetries(self.symmetry, self.symmetries, side)


class PredictSettings(Settings):
    """How test inputs are predicted."""

    augmentations: Annotated[int, Field(ge=0)] | None = None
    """number of augmented puzzles of each task to use, in addition to the original; null for all of the puzzle set"""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """maximum number of cells computed at once, in full boards; null for as many as fit into memory on CUDA, and few
    on CPU"""
    steps: Annotated[int, Field(ge=1, le=MOST_SUPERVISION_STEPS)] | None = None
    """supervision steps, all of them made regardless of halting; null for as many as in training"""
    record: Literal["last", "all"] = "last"
    """supervision steps whose predictions are kept"""
    trajectories: Annotated[int, Field(ge=1, le=2**16)] = 1
    """predictions per augmentation, each with its own random noise: PTRM's, or that of the recursion itself (GRAM)"""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """standard deviation of the noise on the latents before every supervision step; PTRM used 0.2 on ARC-AGI-2"""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """factor on the width of the recursion's own noise ("+ e" in model.recursion); 0 uses its mean"""
    second_pass: bool = True
    """on task canvases, predict again on the whole board where an output may be larger than its canvas"""
    rescore: Annotated[int, Field(ge=0)] = 0
    """candidates of each test input to score under every augmentation, for the ranker "product"; 0 for none"""
    ranker: Annotated[str, AfterValidator(_check_ranker_name)] = "count"

    @model_validator(mode="after")
    def _check_ranker_inputs(self) -> "PredictSettings":
        if self.ranker.endswith(".py"):
            return self
        ranker = find_ranker(self.ranker)
        if ranker.rescored and not self.rescore:
            raise UserError(f"the ranker '{self.ranker}' needs rescored candidates", "set predict.rescore=10 too")
        if ranker.steps == "all" and self.record != "all":
            raise UserError(
                f"the ranker '{self.ranker}' needs the predictions of all supervision steps",
                "set predict.record=all too",
            )
        return self


class UnattendedSettings(Settings):
    """Settings of an unattended run: a supervisor keeps it within its time budget and recovers from failures."""

    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """share of the budget that is kept in reserve at the end, at least 3 seconds"""
    passes: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=0.6)], ...], Field(min_length=1), AfterValidator(_check_increasing_passes)
    ] = (0.1, 0.4)
    """shares of the budget after which training pauses for a cheap prediction pass; passes within the first 30 seconds
    are skipped, except the last one"""
    first_views: Annotated[int, Field(ge=1)] = 4
    """augmentations in the first pass, including the original; later passes use as many as can be predicted quickly"""
    predict_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """maximum share of the budget for the last prediction pass"""
    restarts: Annotated[int, Field(ge=0)] = 5
    """maximum number of restarts of a stage whose process died"""
    patience: Annotated[float, BeforeValidator(parse_duration), Field(gt=0)] = 1200
    """seconds without a heartbeat after which a stage's process counts as dead"""


class SelectionSettings(Settings):
    """Which tasks of the scored source to use: by ID, by largest side, and at most so many."""

    tasks: tuple[str, ...] = ()
    max_side: Annotated[int, Field(ge=1, le=30)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None

    def selection(self) -> Selection:
        """Return the selection as the type that `augment` uses."""
        return Selection(self.tasks, self.max_side, self.limit)
