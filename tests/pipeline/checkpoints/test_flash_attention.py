"""FlashAttention 3 is used where it is installed, right and faster, and taken back everywhere else.

A stand-in is registered in torch's own registry, so activating it and taking it back are torch's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.attention as registry
from torch import Tensor

from pipeline.checkpoints import attention_choice
from pipeline.checkpoints.attention_choice import choose_attention, choose_flash, forget_measurements
from pipeline.checkpoints.differences import largest_difference
from pipeline.checkpoints.load_model import prepare_model
from pipeline.config.run_config import TrainSettings
from pipeline.runtime.console import Console
from solver.model.packing import varlen_attn
from solver.model.puzzle_embedding import PuzzleEmbedding
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.small_model import make_model

CPU = torch.device("cpu")
NETWORK = (2, 8, torch.bfloat16, CPU)
pytestmark = pytest.mark.skipif(
    not hasattr(registry, "register_flash_attention_impl"), reason="torch before 2.11 has one FlashAttention"
)


@dataclass
class Card:
    """What a pretended card with FlashAttention 3 does.

    factor: that the results of 3 have in place of 1
    gradient_factor: the same of the gradient of queries and keys
    seconds: of 3; those of 2 are 1
    error: raised by 3 when it computes
    timed: the implementation that was active at each measurement
    """

    factor: float = 1.0
    gradient_factor: float = 1.0
    seconds: float = 0.5
    error: Exception | None = None
    timed: list[str | None] = field(default_factory=list)

    def attend(self, *inputs: Any) -> Any:
        """Stand in for `varlen_attn`."""
        mixed_THK: Any = varlen_attn(*inputs)
        if active() is None:
            return mixed_THK
        if self.error:
            raise self.error
        mixed_THK.register_hook(lambda gradient_THK: gradient_THK * self.gradient_factor)
        return mixed_THK * self.factor

    def median_seconds(self, work: Callable[[], object], _: float) -> float:
        """Stand in for the clock."""
        work()
        self.timed.append(active())
        return 1.0 if active() is None else self.seconds


class Handle:
    def remove(self) -> None:
        """Take the stand-in back."""


def active() -> str | None:
    return registry.current_flash_attention_impl()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """An H100 on which FlashAttention 3 is installed."""
    made = Card()
    monkeypatch.setattr("solver.model.packing.varlen_attn", made.attend)
    monkeypatch.setattr(attention_choice, "median_seconds", made.median_seconds)
    monkeypatch.setattr(attention_choice, "on_cuda", lambda _: True)
    monkeypatch.setattr(attention_choice, "REALISTIC", attention_choice.SHORT)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(registry._registry._FLASH_ATTENTION_IMPLS, "FA3", Handle)
    forget_measurements()
    yield made
    forget_measurements()


def test_the_faster_one_is_used(card: Card) -> None:
    assert choose_flash(*NETWORK) == "FlashAttention 3; 3 takes 50% of the time of 2"
    assert active() == "FA3"
    assert card.timed == ["FA3", None]


@pytest.mark.parametrize(("seconds", "percent"), [(0.96, 96), (1.5, 150)])
def test_one_that_is_not_faster_is_taken_back(card: Card, seconds: float, percent: int) -> None:
    card.seconds = seconds
    assert choose_flash(*NETWORK) == f"FlashAttention 2; 3 takes {percent}% of the time of 2"
    assert active() is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"factor": 2.0}, "100%"), ({"factor": float("nan")}, "nan%"), ({"gradient_factor": float("nan")}, "nan%")],
)
def test_one_with_other_results_or_gradients_is_not_used(card: Card, wrong: dict[str, float], said: str) -> None:
    vars(card).update(wrong)
    assert choose_flash(*NETWORK) == f"FlashAttention 2; the results of 3 differ by {said}"
    assert active() is None


@pytest.mark.parametrize("error", [ImportError("no flash"), OSError("undefined symbol\nand more"), RuntimeError("old")])
def test_one_that_cannot_be_activated_is_not_used(
    card: Card, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> Handle:
        raise error

    monkeypatch.setitem(registry._registry._FLASH_ATTENTION_IMPLS, "FA3", fail)
    reason = str(error).splitlines()[0]
    assert choose_flash(*NETWORK) == f"FlashAttention 2; 3 does not work: not installed ({reason})"
    assert active() is None
    assert not card.timed


@pytest.mark.parametrize("error", [RuntimeError("FA3 requires compute capability 9.0"), TypeError("signature")])
def test_one_that_fails_is_taken_back(card: Card, error: Exception) -> None:
    card.error = error
    assert choose_flash(*NETWORK) == f"FlashAttention 2; 3 does not work: {error}"
    assert active() is None


def test_lack_of_memory_is_not_taken_for_a_kernel_that_does_not_work(card: Card) -> None:
    card.error = torch.AcceleratorError("CUDA error: out of memory")
    with pytest.raises(torch.AcceleratorError):
        choose_flash(*NETWORK)
    assert active() is None
    card.error = None
    assert choose_flash(*NETWORK).startswith("FlashAttention 3")


def test_a_torch_without_the_choice_has_none(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("activate_flash_attention_impl", "current_flash_attention_impl", "restore_flash_attention_impl"):
        monkeypatch.delattr(registry, name)
    assert choose_flash(*NETWORK) == "FlashAttention 2; 3 does not work: torch before 2.11"


def test_an_older_card_has_no_choice(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert choose_flash(*NETWORK) == ""
    assert active() is None
    assert not card.timed


def test_each_kind_of_kernel_is_timed_once_and_has_its_own_choice(card: Card) -> None:
    other = (4, *NETWORK[1:])
    choose_flash(*NETWORK)
    card.seconds = 2.0
    said = [choose_flash(*network) for network in (NETWORK, other, NETWORK, other)]
    assert [line.split(";")[0] for line in said] == ["FlashAttention 3", "FlashAttention 2"] * 2
    assert len(card.timed) == 4
    assert active() is None
    choose_flash(*NETWORK)
    assert active() == "FA3"


def test_the_log_names_the_choice_and_padded_attention_has_none(card: Card) -> None:
    settings = TrainSettings(precision="bf16", compile=False)
    said = prepare_model(make_model(), PuzzleEmbedding(2, 16), settings, CPU, Console())
    assert said == "bfloat16 on cpu, varlen attention (FlashAttention 3; 3 takes 50% of the time of 2)"
    assert active() == "FA3"
    model = make_model()  # FlashAttention 3 is not taken over from the model before
    assert choose_attention("padded", model, CPU) == "padded attention"
    assert active() is None


def test_random_numbers_of_the_run_stay_as_they_are(card: Card) -> None:
    before = torch.get_rng_state()
    choose_flash(*NETWORK)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_realistic_batch_has_about_fifty_thousand_positions() -> None:
    assert attention_choice.REALISTIC.sum() == 47_530
    assert attention_choice.REALISTIC.max() == 916


def test_the_largest_difference_is_relative_and_shows_every_nan() -> None:
    reference = torch.tensor([1.0, -4.0])
    assert largest_difference([reference, reference + 1], [reference, reference]) == 0.25
    assert largest_difference([reference * 0], [reference * 0]) == 0
    nan = torch.tensor([float("nan"), -4.0])
    for tried in ([reference, nan], [nan, reference]):
        assert not largest_difference(tried, [reference, reference]) < 1e9


def test_the_clock_gives_seconds() -> None:
    calls: list[Tensor] = []
    assert 0 < attention_choice.median_seconds(lambda: calls.append(torch.zeros(2)), 0.001) < 1
    assert calls
