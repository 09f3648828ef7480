"""The whole pipeline on a pretended GPU: no mixture of devices, and no more waits of the host than are known."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from pipeline.config.run_config import RunConfig
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.workload import make_questions
from solver.training.deep_supervision import last_output, predict_steps
from solver.training.learner import Learner
from solver.training.step_result import StepResult
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.commands import run
from tests.helpers.pretended_gpu import CUDA, PretendedTensor, Traffic, pretended_gpu
from tests.helpers.recipe_learner import small_batches, small_learner, small_recipe, small_set

CPU = torch.device("cpu")
NAMES = (
    *("smoke", "smoke_hrm", "smoke_direct", "smoke_gram", "smoke_equilibrium", "smoke_urm", "smoke_symbols"),
    *("cpu", "arc1", "arc1_fast", "arc1_fast_urm", "arc1_fast_gram", "kaggle"),
)
MLP = {"model.mixer": "mlp", "model.canvas": "full", "model.board_side": 6}
MEMBERS = {name: small_recipe(name) for name in NAMES} | {"mlp": small_recipe("smoke", **MLP)}

MOST_WAITS_OF_A_STEP = {"smoke": 3, "smoke_symbols": 4, "arc1": 3}
"""Today's waits of the host in a training step, by recipe. These must only fall: the GPU idles after each of them."""
WAITS_OF_A_BATCH = {"smoke": 3, "smoke_symbols": 3, "arc1": 3}
"""Waits of the host in a prediction batch, by recipe: one to find the traced positions, two to copy the predictions and
the trace."""

INDEXED_BY_THE_CPU = {"pipeline/checkpoints/id_table.py:match_rows"}
"""Functions that index a tensor on CUDA by one of the CPU: the ID table of a training that ends in this process."""
VISITED = {
    "pipeline/prediction/test_time_training.py:TaskTrainer.trained_on",
    "pipeline/training/metrics.py:Tally.add",
    "solver/model/noise.py:make_keys",
    "solver/model/trace.py:TraceRecorder.__init__",
}
"""Functions that move something to the device in the run of every stage: none of them was left out."""


@pytest.mark.parametrize(
    ("capability", "attention", "choice"),
    [((9, 0), "auto", "bfloat16 on cuda:0, varlen"), ((7, 5), "padded", "float16 on cuda:0, padded")],
    ids=["H100", "T4"],
)
def test_every_stage_runs(capability: tuple[int, int], attention: str, choice: str, tmp_path: Path) -> None:
    settings = ["train.compile=false", "train.steps=4", "puzzles.augmentations=1", "train.hold_out=2"]
    settings += [f"train.attention={attention}", "train.log_every=2", "train.task_steps=1"]
    settings += ["predict.rescore=3", "predict.trajectories=2", "predict.noise=0.2"]
    words = [word for setting in settings for word in ("--set", setting)]
    with pretended_gpu(capability) as traffic:
        assert run("solve", "--recipe", "smoke", *words, "--run-dir", tmp_path / "run") == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"training in {choice} attention" in log
    assert f"predicting in {choice} attention" in log
    assert traffic.hidden.keys() <= INDEXED_BY_THE_CPU
    assert traffic.moves.keys() >= VISITED


def two_steps(config: RunConfig, device: torch.device, traffic: Traffic | None = None) -> tuple[Learner, StepResult]:
    """Make two steps of a fresh learner; `traffic` is that of the second step alone."""
    first, second = small_batches(config, 2)
    learner = small_learner(config, device)
    learner.step(first.to(device))
    if traffic:
        traffic.clear()
    return learner, learner.step(second.to(device))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_trains_and_predicts(name: str) -> None:
    """In half precision as on an H100; half precision changes the loss by less than a hundredth."""
    config = MEMBERS[name]
    with pretended_gpu() as traffic:
        learner, result = two_steps(config, CUDA)
        assert learner.model.varlen == (name != "mlp" and not config.model.symbols)
        assert learner.model.precision == torch.bfloat16
        assert all(isinstance(parameter.grad, PretendedTensor) for parameter in learner.model.parameters())
        logits_BCV = last_output(predict_steps(learner.model, learner.table, small_batches(config, 1)[0].to(CUDA)))
        loss = result.losses.total.cpu()
        figures = logits_BCV.logits_BCV.cpu()
    assert not traffic.hidden
    assert not figures.isnan().any()
    assert_close(loss, two_steps(config, CPU)[1].losses.total, rtol=0.01, atol=0)


@pytest.mark.parametrize("name", MOST_WAITS_OF_A_STEP)
def test_a_step_waits_no_more_than_it_did(name: str) -> None:
    with pretended_gpu() as traffic:
        two_steps(MEMBERS[name], CUDA, traffic)
    assert traffic.waits.total() <= MOST_WAITS_OF_A_STEP[name], traffic.waits


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", WAITS_OF_A_BATCH)
def test_a_prediction_batch_waits_as_often_for_any_number_of_steps(name: str, steps: int) -> None:
    config = MEMBERS[name]
    questions = make_questions(config, small_set(config.puzzles, config.model.board_side), config.predict)
    with pretended_gpu() as traffic:
        learner = small_learner(config, CUDA)
        predictor = Predictor(learner.model, learner.table, questions, steps, record="all")
        traffic.clear()
        computed = predictor.compute(questions.ask_all()[0])
    assert computed.traced
    assert traffic.waits.total() == WAITS_OF_A_BATCH[name], traffic.waits


CHUNKS = small_recipe("smoke", **{"train.micro_batch": 1, "model.board_side": 8})
PADDED = small_recipe("smoke", **{"train.attention": "padded"})
MOVES = {
    "solver/data/batch.py:Batch.to": MEMBERS["smoke"],
    "pipeline/checkpoints/load_model.py:prepare_model": MEMBERS["smoke"],
    "solver/model/puzzle_embedding.py:PuzzleEmbedding.to": MEMBERS["smoke"],
    "solver/model/packing.py:_make_group": PADDED,
    "solver/model/packing.py:consecutive": MEMBERS["smoke"],
    "solver/model/noise.py:make_keys": MEMBERS["smoke_gram"],
    "solver/training/deep_supervision.py:advance": MEMBERS["smoke"],
    "solver/training/deep_supervision.py:_keep_rows": MEMBERS["smoke"],
    "solver/training/deep_supervision.py:Carry.take": CHUNKS,
    "solver/training/micro_batches.py:join_chunks": CHUNKS,
}
"""Functions that move something to the device in a step, and a config whose steps call them."""


@pytest.mark.parametrize("place", MOVES)
def test_a_move_that_is_taken_away_is_noticed(place: str) -> None:
    """By an operation that mixes devices, as on CUDA, or by an index that CUDA would copy without a word."""
    refusal = ""
    with pretended_gpu(unmoved=[place]) as traffic:
        try:
            two_steps(MOVES[place], CUDA)
        except RuntimeError as error:
            refusal = str(error)
    assert traffic.hidden or "Expected all tensors to be on the same device" in refusal


def test_what_cuda_refuses_is_refused_and_what_it_allows_is_not() -> None:
    with pretended_gpu() as traffic:
        here = torch.arange(3.0)
        there = torch.arange(3.0).to("cuda")
        for mix in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert not traffic.waits
        assert (there + torch.tensor(1.0)).cpu().tolist() == [1, 2, 3]
        assert there[torch.tensor([2])].item() == 2
        assert (traffic.waits.total(), traffic.moves.total(), traffic.hidden.total()) == (2, 1, 1)


def test_gradients_pass_between_the_devices() -> None:
    with pretended_gpu():
        x = torch.ones(3, requires_grad=True)
        (2 * x.to("cuda")).square().cpu().sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [8, 8, 8]
