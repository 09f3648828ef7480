"""The parts of a run's config, each checked by itself: how puzzles are made, learnt, answered, and by what clock.

In: values by name. Out: frozen settings, or pydantic's ValidationError naming the field.
"""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

from augment import MAX_PAIRS, Draws, Duplicates, FixedColours, OnLeak, Selection
from augment.errors import UserError
from augment.logic_puzzles.symmetry import Symmetries, SymmetryName
from pipeline.time_budget import parse_duration
from solver.data.choices import Visits
from solver.data.puzzle_ids import Ids, needed_draws
from solver.model.config import EVIDENCE, Curriculum, EvidenceConfig, IdOptimizerName, LossName, OptimizerName, Schedule
from submissions.rankers import find_ranker


def _known_ranker(name: str) -> str:
    if not name.endswith(".py"):  # a file is looked at when it is used: a checkpoint's config outlives it
        find_ranker(name)
    return name


def _named_once(weights: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    sources = [source for source, _ in weights]
    twice = sorted({source for source in sources if sources.count(source) > 1})
    if twice:
        raise UserError(f"{', '.join(twice)} is weighted twice", "give each source one weight")
    return weights


def _ascending(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise UserError(f"they must grow from one to the next, and are {shares}")
    return shares


def _ascending_shares(curriculum: Curriculum) -> Curriculum:
    shares = [share for share, _, _ in curriculum]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise UserError(f"its shares must grow from one stage to the next, and are {shares}")
    return curriculum


def _low_to_high(levels: tuple[float, float]) -> tuple[float, float]:
    if levels[0] > levels[1]:
        raise UserError(f"the lower comes first, and they are {levels}")
    return levels


class Settings(BaseModel):
    """Base of all settings: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PuzzleSettings(Settings):
    """How tasks become puzzles."""

    augmentations: Annotated[int, Field(ge=0)] = 1000
    """augmented puzzles per task besides the original"""
    pairs: Annotated[int, Field(ge=1)] = MAX_PAIRS
    """of a task that is a long list of pairs (RE-ARC), train on so many, drawn by the seed"""
    on_leak: OnLeak = "drop"
    """a train task that holds a scored one: stop, drop it, or allow it and mark every score"""
    duplicates: Duplicates = "keep"
    """a train task with the pairs of another under another ID: keep or drop"""
    max_side: Annotated[int, Field(ge=1, le=30)] | None = None
    """leave out train tasks with a longer side"""
    ids: Ids = "augmentation"
    """what has an ID row: each puzzle ("augmentation"), each transform of a task, or each task ("task", where
    model.transform_vectors tells transforms apart, or "shared"); "transform" and "task" draw colours at each visit"""
    fixed_colours: FixedColours = "outputs"
    """which colours a fresh draw leaves alone: black and those of outputs that no public input has, or "black" only"""
    workers: Annotated[int, Field(ge=1)] = 1

    @property
    def draws(self) -> Draws:
        """What the puzzles of the set must be."""
        return needed_draws(self.ids, self.fixed_colours)


class TrainSettings(Settings):
    """How the model learns. Defaults are the published ones, but for the number of steps."""

    steps: Annotated[int, Field(ge=1)] = 500_000
    batch_size: Annotated[int, Field(ge=1)] = 768
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    id_lr: Annotated[float, Field(gt=0)] = 1e-2
    id_weight_decay: Annotated[float, Field(ge=0)] = 0.1
    warmup: Annotated[int, Field(ge=0)] = 2000
    fit: bool = False
    """where time is limited, plan for as many steps as fit into it (`steps` at most), and the schedule with them"""
    ids_only: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """for this share of the steps only ID rows learn; the weights stay as they start"""
    task_steps: Annotated[int, Field(ge=0)] = 0
    """after training, so many steps on each scored task by itself, from the trained weights, which then answer it"""
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """the learning rate at the last step as a share of its peak; 1 keeps it constant"""
    schedule: Schedule = "cosine"
    """how the rate falls to that after the warm-up: along a cosine, or ("wsd") constant at first, then linearly"""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    """with "wsd", the share of the steps at the end over which it falls"""
    average: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    """decay of the moving average of the weights; null for none"""
    average_warmup: bool = False
    """let that decay grow from a small one, so that an average over few steps does not hold the weights at the start"""
    shift: bool = True
    """draw a fresh place on the board for every example"""
    symmetry: SymmetryName = "none"
    """of whole boards, for Sudoku and Maze: each example is trained on under one that is drawn afresh"""
    symmetries: Annotated[int, Field(ge=0)] = 1000
    """how many there are of each pair, besides itself"""
    source_weights: Annotated[
        tuple[tuple[str, Annotated[float, Field(ge=0, le=1000)]], ...], AfterValidator(_named_once)
    ] = ()
    """(source, weight) pairs: how often an epoch visits each of its tasks, on average; once where none is given,
    and with weight 0 never, so that its puzzles are not learnt"""
    visits: Visits = "tasks"
    """"tasks": an epoch visits each task once and takes all pairs of one of its puzzles; "pairs": every example is
    drawn by itself, a task, a puzzle of it and a pair, each uniformly"""
    feed: Literal["all", "halted"] = "all"
    """"all" offers every slot an example and throws away those of running slots; "halted" offers to halted ones only"""
    hold_out: Annotated[int, Field(ge=0)] = 0
    """keep one demonstration of this many tasks out of training and report the accuracy on them"""
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000
    log_every: Annotated[int, Field(ge=1)] = 50
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """what the network computes in; "auto": bf16 on CUDA from 8.0, fp16 on older CUDA, else fp32; fp64 is for checks"""
    compile: bool | None = None
    """torch.compile; null for on CUDA only"""
    attention: Literal["auto", "varlen", "padded"] = "auto"
    """how examples of different lengths attend: "varlen" by torch's kernel for it (CUDA, half precision), "padded" in
    groups of few lengths; "auto": varlen where torch brings it"""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """at most so many full boards' worth of cells at once, gradients being summed; null for the whole batch"""
    optimizer: OptimizerName = "adam_atan2"
    """of the weights; "muon" and "normuon" take the blocks' matrices and leave the rest to Adam-atan2 and AdamW"""
    muon_lr: Annotated[float, Field(gt=0)] = 1e-4
    """learning rate of Muon's and NorMuon's matrices; their updates are as large as Adam's at the same rate"""
    id_optimizer: IdOptimizerName = "sign"
    """of the ID rows: by the signs of their gradients, or "adam" (with train.betas), whose state is twice the table"""
    loss: LossName = "stablemax"
    """what turns logits into probabilities, in training and in whatever is predicted afterwards"""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the target that is spread over all tokens of a cell"""
    halting_loss: Annotated[float, Field(ge=0)] = 0.5
    """weight of the loss of the halting and continue logits; unused with model.halting=random"""
    corrupted: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of new examples whose answer starts at their target, corrupted, instead of at the usual start"""
    corruption: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], AfterValidator(_low_to_high)
    ] = (0.3, 1.0)
    """how much of it is corrupted: each example draws its share of random colours between these two"""
    curriculum: Annotated[
        tuple[tuple[Annotated[float, Field(gt=0, lt=1)], PositiveInt, PositiveInt], ...],
        AfterValidator(_ascending_shares),
    ] = ()
    """(share of the steps, h_cycles, l_cycles): fewer cycles until that share is done, at last the model's own"""
    evidence: EvidenceConfig = EVIDENCE
    """where noise is learnt ("+ e" in model.recursion), how its bound on the evidence is weighed"""
    trackers: tuple[str, ...] = ()
    """where accelerate sends the metrics besides metrics.jsonl: "tensorboard", "wandb" ..."""

    def whole_boards(self, side: int) -> Symmetries | None:
        """The symmetries of boards of this side, if any; ValueError where there are none such."""
        return None if self.symmetry == "none" else Symmetries(self.symmetry, self.symmetries, side)


class PredictSettings(Settings):
    """How test inputs are answered."""

    augmentations: Annotated[int, Field(ge=0)] | None = None
    """use this many augmented puzzles of each task besides the original; null for all of the set"""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """at most so many full boards' worth of cells at once; null for as many as are found to fit on CUDA, few on CPU"""
    steps: Annotated[int, Field(ge=1)] | None = None
    """supervision steps, none of them skipped by halting; null for as many as in training"""
    record: Literal["last", "all"] = "last"
    """of which supervision steps the answers are kept"""
    trajectories: Annotated[int, Field(ge=1, le=2**16)] = 1
    """answers per augmentation, each by chance of its own: noise (PTRM), or what the recursion itself draws (GRAM)"""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """standard deviation of the noise on the latents before every supervision step; PTRM took 0.2 on ARC-AGI-2"""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """factor on the width of the noise that the recursion draws ("+ e" in model.recursion); 0 follows its mean"""
    second_pass: bool = True
    """on task canvases, ask again on the whole board where an output may be larger than its canvas"""
    rescore: Annotated[int, Field(ge=0)] = 0
    """score so many candidates of each test input under every augmentation, for the ranker "product"; 0 for none"""
    ranker: Annotated[str, AfterValidator(_known_ranker)] = "count"

    @model_validator(mode="after")
    def _has_what_the_ranker_needs(self) -> "PredictSettings":
        if self.ranker.endswith(".py"):
            return self
        ranker = find_ranker(self.ranker)
        if ranker.rescored and not self.rescore:
            raise UserError(f"the ranker '{self.ranker}' needs candidates to be rescored: set predict.rescore=10 too")
        if ranker.steps == "all" and self.record != "all":
            raise UserError(f"the ranker '{self.ranker}' needs the answers of all steps: set predict.record=all too")
        return self


class UnattendedSettings(Settings):
    """A run that nobody watches: it keeps to its time and goes on with what it has, whatever breaks."""

    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """share of the budget that is left over at the end, 3 seconds at least"""
    passes: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=0.6)], ...], Field(min_length=1), AfterValidator(_ascending)
    ] = (0.1, 0.4)
    """shares of the budget after which training stops for a cheap prediction; those within the first 30 seconds are
    left out, but for the last"""
    first_views: Annotated[int, Field(ge=1)] = 4
    """augmentations in the first of them, the original counted; in later ones as many as are quickly predicted"""
    predict_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """share of the budget that the last prediction gets at most"""
    restarts: Annotated[int, Field(ge=0)] = 5
    """how often a stage that died is started again"""
    patience: Annotated[float, BeforeValidator(parse_duration), Field(gt=0)] = 1200
    """seconds without a sign of life after which a stage is taken for dead"""


class SelectionSettings(Settings):
    """Which tasks of the scored source."""

    tasks: tuple[str, ...] = ()
    max_side: Annotated[int, Field(ge=1, le=30)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None

    def selection(self) -> Selection:
        """The same as `augment` takes it."""
        return Selection(self.tasks, self.max_side, self.limit)
