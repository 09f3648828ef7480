"""The variables of a launch, and devices that do not compute: one process runs, a wrong launch is named."""

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from pipeline.runtime import distributed
from pipeline.runtime.distributed import LaunchedProcesses, cuda_works, start_accelerator
from pipeline.runtime.exit_codes import NoDeviceError
from pipeline.runtime.launcher import LAUNCH_VARIABLES, count_launched, is_first

MESSAGE = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be ..."


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No launch, and nothing known of devices."""
    for name in LAUNCH_VARIABLES:
        monkeypatch.setenv(name, "")  # restores what start_accelerator removes
        monkeypatch.delenv(name)
    AcceleratorState._reset_state(True)
    cuda_works.cache_clear()
    yield
    AcceleratorState._reset_state(True)
    cuda_works.cache_clear()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "1", "RANK": "3", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "1"},
        {"RANK": "2", "LOCAL_RANK": "2"},
        {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""},
    ],
)
def test_one_process_runs_by_itself(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert (count_launched(), is_first()) == (1, True)
    accelerator = start_accelerator()
    assert (accelerator.num_processes, accelerator.process_index) == (1, 0)
    assert not set(LAUNCH_VARIABLES) & set(os.environ)


def test_a_wrong_launch_names_the_variables_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    assert not is_first()
    with pytest.raises(NoDeviceError, match=r"3 processes were launched \(WORLD_SIZE=3, RANK=1\)"):
        start_accelerator()


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(NoDeviceError, match=f"WORLD_SIZE is '{text}'"):
        start_accelerator()


def pretend_card(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Stand in for a card on which every operation fails with this error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch, "ones", fail)


def test_a_card_without_kernels_is_reported_once_and_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pretend_card(monkeypatch, RuntimeError(MESSAGE))
    assert start_accelerator().device.type == "cpu"
    assert not cuda_works()
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: Tesla P100-PCIE-16GB cannot be used with torch")
    assert line.endswith(
        "(CUDA error: no kernel image is available for execution on the device): the CPU is used instead"
    )


def test_a_card_that_computes_no_gradient_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(MESSAGE)

    ones = torch.ones
    pretend_card(monkeypatch, RuntimeError(MESSAGE))
    monkeypatch.setattr(torch, "ones", lambda *shape, device, **options: ones(*shape, **options))
    with torch.no_grad():
        assert cuda_works()
    cuda_works.cache_clear()
    monkeypatch.setattr(torch.autograd, "grad", fail)
    assert not cuda_works()
    assert "cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error: out of memory")]
)
def test_a_card_whose_memory_is_full_computes(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    pretend_card(monkeypatch, error)
    assert cuda_works()


@pytest.mark.parametrize(
    ("text", "kind"), [("Cuda failure 2 'out of memory'", RuntimeError), ("Connection reset", ConnectionError)]
)
def test_lack_of_memory_in_a_collective_operation_is_no_lost_process(
    monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    def fail(_: torch.Tensor) -> None:
        raise RuntimeError(text)

    processes = LaunchedProcesses(start_accelerator())
    monkeypatch.setattr(processes, "count", 2)
    monkeypatch.setattr("torch.distributed.all_reduce", fail)
    with pytest.raises(kind, match=text):
        processes.sum_(torch.ones(1))


def test_more_processes_than_cards_are_refused_before_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL refuses two processes on one card, and a card that is not there cannot be set."""

    def construct(**_: object) -> SimpleNamespace:
        return SimpleNamespace(num_processes=3)

    monkeypatch.setattr(distributed, "Accelerator", construct)
    monkeypatch.setattr(distributed, "cuda_works", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    start_accelerator()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    text = r"3 processes were launched on this machine \(WORLD_SIZE=3, LOCAL_WORLD_SIZE=3\), and there are 2 GPUs"
    with pytest.raises(NoDeviceError, match=text):
        start_accelerator()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    start_accelerator()


def test_without_a_card_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pretend_card(monkeypatch, RuntimeError(MESSAGE))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not cuda_works()
    assert capsys.readouterr().out == ""
    assert isinstance(start_accelerator(), Accelerator)
