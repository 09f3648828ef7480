"""Does a GPU compute what it should? A line for each check; exit code 1 if one fails.

    python -m benchmarks.check_cuda [--device cpu]      half a minute on 2 cores; a few minutes on a GPU, not run there

On CUDA the network has its published size and the tasks any size; on the CPU both are small. There memory does not run
out, and half precision is neither compiled nor uses the variable-length kernel.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from augment import Selection
from pipeline.checkpoints.convert_trm import read_published
from pipeline.config.run_config import RunConfig, override
from pipeline.recipes.registry import recipe
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.symbol_axis import NEVER
from solver.training.deep_supervision import predict_steps
from solver.training.learner import Learner
from solver.training.step_result import StepResult
from tests.helpers.golden_models import GRADIENTS, MODELS, load
from tests.helpers.recipe_learner import small_batches, small_learner, small_set

PLAIN = {"train.precision": "fp32", "train.compile": False, "train.attention": "padded"}
"""What everything else is compared with."""
SMALL = {"model.hidden": 64, "model.heads": 2, "model.inner_multiple": 64, "model.h_cycles": 2, "model.l_cycles": 2}
SMALL |= {"train.batch_size": 8}
FAST = ("arc1_fast_trm", "arc1_fast")
MEMBERS = ("arc1_fast_urm", "arc1_fast_gram", "smoke_hrm", "smoke_direct", "smoke_equilibrium")
"""The models of the family; those of FAST are checked further."""
GOLDEN_FACTOR = 20
"""How many times further off than on the processor that made the golden sets."""
GOLDEN_STEPS = 3
"""Supervision steps of the golden sets; TRM-MLP multiplies differences by six at each."""
FP32_ERROR = 1e-3
HALF_LOGITS = 0.05
HALF_GRADIENTS = 0.15
"""Largest accepted differences, relative to the norm: between two orders of summation, and between fp32 and bf16."""
SPARE_BYTES = 4 * 2**30
"""Memory that is left to the step that is to run out of it."""


@dataclass(frozen=True)
class Place:
    """Where the checks run; `small` chooses a network and tasks that a CPU trains on within a second."""

    device: torch.device
    small: bool

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    @property
    def tasks(self) -> Selection:
        """The tasks that are trained on."""
        return Selection(max_side=8, limit=8) if self.small else Selection(limit=60)

    def config(self, name: str, **changes: Any) -> RunConfig:
        """Return a recipe without schedules, with 64 slots; `changes` are settings by dotted name."""
        sizes = SMALL if self.small else {"train.batch_size": 64}
        return override(recipe(name), {"train.warmup": 2, "train.curriculum": (), **sizes, **changes})

    def learner(self, config: RunConfig) -> Learner:
        """Return a learner whose puzzle embeddings are not zero."""
        learner = small_learner(config, self.device, self.tasks)
        weights_PI = learner.table.weights_PI
        weights_PI.copy_(torch.randn(weights_PI.shape, generator=torch.Generator().manual_seed(1)))
        return learner

    def batches(self, config: RunConfig, number: int) -> list[Batch]:
        """Return the first batches of a training."""
        return [batch.to(self.device) for batch in small_batches(config, number, self.tasks)]

    def step(self, config: RunConfig) -> tuple[Learner, StepResult, Tensor]:
        """Make the first step; returns the learner, the result and all gradients in one vector."""
        learner = self.learner(config)
        result = learner.step(self.batches(config, 1)[0])
        return learner, result, gradients_of(learner)


@dataclass(frozen=True)
class Finding:
    """What a check found, and whether it may be so."""

    text: str
    holds: bool


Check = Callable[[Place], Finding]


def gradients_of(learner: Learner) -> Tensor:
    """Return the gradients of all weights in one vector."""
    return torch.cat([weight.grad.flatten() for weight in learner.model.parameters() if weight.grad is not None])


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Return |ours - theirs| / |theirs|."""
    ours = ours.double()
    theirs = theirs.double()
    return float((ours - theirs).norm() / theirs.norm())


def furthest(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest absolute difference."""
    return float((ours.cpu().double() - theirs.cpu().double()).abs().max())


def check_golden(name: str, precision: torch.dtype, place: Place) -> Finding:
    """Published TRM and HRM: logits of the first supervision steps, gradients of the first training step."""
    golden = load(name)
    learner = golden.learner(precision, place.device)
    batch = golden.batch(0).to(place.device)
    steps = [step for step in golden.steps("eval", "logits") if step <= GOLDEN_STEPS]
    share = 0.0
    for step, output in enumerate(predict_steps(learner.model, learner.table, batch, max(steps)), 1):
        if step in steps:
            off = furthest(output.logits_BCV, golden.io[f"eval.step{step}.logits"])
            share = max(share, off / golden.allowed(step))
    learner.step(batch)
    expected, _ = read_published(golden.file("grads_step1"))
    weights = dict(learner.model.named_parameters())
    gradients = max(furthest(weights[key].grad, value) for key, value in expected.items())  # pyright: ignore[reportArgumentType]
    text = f"logits off by {share:.2g} of what is allowed on a CPU, gradients by {gradients / GRADIENTS:.2g}"
    return Finding(text, share < GOLDEN_FACTOR and gradients < GOLDEN_FACTOR * GRADIENTS)


def check_canvas(place: Place) -> Finding:
    """A task canvas trains as the whole board with the same cells left out does (fp32)."""
    config = place.config("arc1_fast_trm", **PLAIN)
    puzzles = small_set(config.puzzles, config.model.board_side, place.tasks)
    batches = []
    for canvas in ("task", "full"):
        examples = PuzzleDataset(puzzles, canvas, ids=config.puzzles.ids, palette=config.model.palette)
        batches.append(examples.training_batch(examples.sampler(config.seed), config.train.batch_size))
    task, full = batches
    shown_BC = torch.zeros(full.cells_BS.shape, dtype=torch.bool)
    for shown_C, cells_C in zip(shown_BC, task.cells_BS, strict=True):
        shown_C[cells_C[cells_C >= 0]] = True
    masked = replace(full, cells_BS=full.cells_BS.masked_fill(~shown_BC, -1))
    gradients = []
    for batch in (task, masked):
        learner = place.learner(config)
        learner.step(batch.to(place.device))
        gradients.append(gradients_of(learner))
    off = relative(*gradients)
    return Finding(f"gradients differ by {off:.1e}", off < FP32_ERROR)


@contextmanager
def little_memory(place: Place) -> Iterator[None]:
    """Leave SPARE_BYTES of the GPU's memory within the block."""
    torch.cuda.empty_cache()
    used = torch.cuda.memory_reserved(place.device)
    total = torch.cuda.mem_get_info(place.device)[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, (used + SPARE_BYTES) / total), place.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, place.device)


def check_memory(place: Place) -> Finding:
    """A step that runs out of memory is cut, and learns the same; on the CPU it is cut by a setting (fp32)."""
    config = place.config("arc1", **PLAIN, **({"train.batch_size": 3} if place.small else {}))
    expected = place.step(config)[2]
    if place.cuda:
        learner = place.learner(config)
        batch = place.batches(config, 1)[0]
        with little_memory(place):
            learner.step(batch)
        gradients = gradients_of(learner)
    else:
        learner, _, gradients = place.step(override(config, {"train.micro_batch": 1}))
    most = learner.numbers()["most_positions"]
    total = config.train.batch_size * (config.model.id_slots + config.model.cells)
    off = relative(gradients, expected)
    text = f"at most {most} of {total} positions at once, gradients differ by {off:.1e}"
    return Finding(text, most is not None and most < total and off < FP32_ERROR)


def check_resume(place: Place) -> Finding:
    """A learner that loads a state goes on as the one that saved it, as training runs by default."""
    config = place.config("arc1_fast_trm")
    *before, batch = place.batches(config, 4)
    learner = place.learner(config)
    other = place.learner(config)
    for each in before:
        learner.step(each)
    tensors = {kind: _copy(values) for kind, values in learner.tensors().items()}
    other.load(tensors, [_copy(learner.slots())], learner.numbers())
    ours = other.step(batch)
    theirs = learner.step(batch)
    off = relative(ours.output.logits_BCV, theirs.output.logits_BCV)
    alike = ours.halted_B.equal(theirs.halted_B)
    return Finding(f"logits differ by {off:.1e}, {'the same' if alike else 'other'} slots halt", alike and off < 0.01)


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def check_id_rows(place: Place) -> Finding:
    """Gradients of equal IDs are summed in the same order every time: the table is the same, bit for bit."""
    rows_B = torch.randint(0, 50, (4096,), generator=torch.Generator().manual_seed(0)).to(place.device)
    gradients_BI = torch.randn(4096, 512, generator=torch.Generator().manual_seed(1)).to(place.device)
    tables = []
    for _ in range(3):
        table = PuzzleEmbedding(64, 512)
        table.to(place.device, torch.float32)
        table.sign_sgd_(rows_B, gradients_BI, 0.1, 0.1)
        tables.append(table.weights_PI)
    same = all(table.equal(tables[0]) for table in tables)
    return Finding("the same three times" if same else "differs between repetitions", same)


def check_fast(name: str, place: Place) -> Finding:
    """The default on CUDA, half precision, varlen and compiled, computes what fp32, padded and uncompiled does."""
    _, plain, expected = place.step(place.config(name, **PLAIN))
    changes = {} if place.cuda else {"train.precision": "bf16"}
    learner, fast, gradients = place.step(place.config(name, **changes))
    logits_BCV = plain.output.logits_BCV
    shown_BCV = logits_BCV > NEVER / 2
    logits = relative(fast.output.logits_BCV[shown_BCV], logits_BCV[shown_BCV])
    off = relative(gradients, expected)
    model = learner.model
    text = f"{model.precision}, {'varlen' if model.varlen else 'padded'}: logits {logits:.1e}, gradients {off:.1e}"
    half = model.precision in (torch.bfloat16, torch.float16)
    return Finding(text, half and logits < HALF_LOGITS and off < HALF_GRADIENTS)


def check_member(name: str, place: Place) -> Finding:
    """Two steps of a recipe as it trains by default have a finite loss."""
    config = place.config(name)
    learner = place.learner(config)
    losses = [learner.step(batch).losses.total for batch in place.batches(config, 2)]
    return Finding(f"loss {float(losses[0]):.2f}, {float(losses[1]):.2f}", all(bool(x.isfinite()) for x in losses))


def list_checks() -> dict[str, Check]:
    """Return the checks by name, in order."""
    checks: dict[str, Check] = {
        f"golden {name} {str(precision).removeprefix('torch.')}": partial(check_golden, name, precision)
        for name in MODELS
        for precision in (torch.float64, torch.float32)
    }
    checks |= {"canvas": check_canvas, "memory": check_memory, "resume": check_resume, "id rows": check_id_rows}
    checks |= {f"fast {name}": partial(check_fast, name) for name in FAST}
    return checks | {f"member {name}": partial(check_member, name) for name in MEMBERS}


def run_check(name: str, check: Check, place: Place) -> bool:
    """Run a check and print its line; an exception is a failure. Returns whether it holds."""
    start = time.monotonic()
    torch.compiler.reset()  # torch gives up at the ninth graph of a function, and every check has a network of its own
    try:
        finding = check(place)
    except Exception:
        finding = Finding(traceback.format_exc(limit=-3).replace("\n", " | ")[-600:], False)
    seconds = time.monotonic() - start
    print(f"{'ok    ' if finding.holds else 'FAILED'} {name}: {finding.text} ({seconds:.1f} s)", flush=True)
    return finding.holds


def choose_place(device: str | None) -> Place:
    """Return where to check; None is CUDA where there is one. BadParameter if the device is not there."""
    known = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    if device is not None and device not in known:
        raise typer.BadParameter(f"{device!r} is not a device here: name {' or '.join(known)}", param_hint="--device")
    chosen = torch.device(device or known[0])
    return Place(chosen, small=chosen.type == "cpu")


def main(
    device: Annotated[str | None, typer.Option(help="[default: cuda where there is one, else cpu]")] = None,
) -> None:
    """Run every check."""
    place = choose_place(device)
    if place.cuda:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    failed = [name for name, check in list_checks().items() if not run_check(name, check, place)]
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks hold")
    sys.exit(bool(failed))


if __name__ == "__main__":
    typer.run(main)
