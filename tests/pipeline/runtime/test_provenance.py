"""versions.json of a run names versions, or says that they are not known."""

import json
from pathlib import Path
from typing import Any

import pytest

from augment.errors import DamagedError
from pipeline.checkpoints.backbone import describe_training
from pipeline.runtime.provenance import VERSIONS_FILE, read_versions, versions
from tests.helpers.paths import ROOT


def write(folder: Path, value: Any) -> Path:
    (folder / VERSIONS_FILE).write_text(json.dumps(value))
    return folder


def test_the_versions_of_this_process_are_read_back(tmp_path: Path) -> None:
    assert read_versions(write(tmp_path, versions())) == versions()


def test_versions_with_other_names_are_read(tmp_path: Path) -> None:
    assert read_versions(write(tmp_path, {})) == {}
    assert read_versions(write(tmp_path, {"jax": "1.0", "gpus": None})) == {"jax": "1.0", "gpus": None}
    for folder in (ROOT / "tests" / "golden" / "v0.1" / name for name in ("finished", "stopped")):
        assert read_versions(folder) == json.loads((folder / VERSIONS_FILE).read_text())


@pytest.mark.parametrize("value", [[], None, 1, {"torch": []}, {"torch": 1.5}, {"cores": True}, [["torch", "2"]]])
def test_a_wrong_value_is_named_with_what_to_do(tmp_path: Path, value: Any) -> None:
    write(tmp_path, value)
    with pytest.raises(DamagedError) as error:
        describe_training(tmp_path)
    assert str(tmp_path / VERSIONS_FILE) in str(error.value)
    assert str(error.value).endswith("; write {} into it, and the versions count as unknown")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"versions\.json: it does not exist"):
        read_versions(tmp_path)
