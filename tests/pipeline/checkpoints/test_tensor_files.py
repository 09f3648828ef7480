"""Tensor files: a failure of the file system keeps its number and names the file."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.checkpoints.checkpoint import save_checkpoint
from pipeline.checkpoints.tensor_files import save_tensors
from pipeline.runtime.exit_codes import ExitCode, exit_code
from pipeline.runtime.system_errors import explain
from tests.helpers.checkpoints import make_checkpoint


def test_tensors_are_written(tmp_path: Path) -> None:
    save_tensors({"one": torch.arange(3)}, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors")["one"].tolist() == [0, 1, 2]


def test_a_folder_that_is_missing_keeps_its_number(tmp_path: Path) -> None:
    """As safetensors itself reports it."""
    file = tmp_path / "missing" / "a.safetensors"
    with pytest.raises(FileNotFoundError) as error:
        save_tensors({"one": torch.arange(3)}, file)
    assert (error.value.errno, error.value.filename) == (errno.ENOENT, str(file))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_a_system_error_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError(f"Error while serializing: I/O error: whatever the system says (os error {code})")

    monkeypatch.setattr("pipeline.checkpoints.tensor_files.save_file", fail)
    with pytest.raises(OSError, match="safetensors") as error:
        save_tensors({}, tmp_path / "a.safetensors")
    assert error.value.errno == code


def test_a_disk_that_fills_during_a_checkpoint_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: object, file: Path) -> None:
        file.write_bytes(b"the first half")
        raise SafetensorError(f"Error while serializing: I/O error: no space (os error {errno.ENOSPC})")

    monkeypatch.setattr("pipeline.checkpoints.tensor_files.save_file", fail)
    with pytest.raises(OSError, match="No space left") as error:
        save_checkpoint(tmp_path / "final", make_checkpoint())
    monkeypatch.undo()
    reported = explain(error.value)
    assert str(reported).startswith(f"{tmp_path}/final/model.safetensors cannot be written: No space left on device")
    assert exit_code(reported) == ExitCode.DISK_FULL
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tmp_path / "final", make_checkpoint())  # the same again, with space


def test_another_error_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("Error while serializing: InvalidTensorView")

    monkeypatch.setattr("pipeline.checkpoints.tensor_files.save_file", fail)
    with pytest.raises(SafetensorError):
        save_tensors({}, tmp_path / "a.safetensors")
