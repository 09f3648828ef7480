"""The folder of a checkpoint: predicted with, trained from, and made a backbone."""

from pathlib import Path
from random import Random

import torch

from augment import open_puzzle_set
from pipeline.checkpoints.checkpoint import ABOUT, fingerprint, load_checkpoint, read_checkpoint_header
from pipeline.checkpoints.load_model import load_model
from tests.fuzz.outcomes import call_command, refusable
from tests.fuzz.sealed import mutate_sealed_folder
from tests.fuzz.small_run import CHECKPOINT, PUZZLES, on_files, write_checkpoint

RUN = "run"
RESUMED = "step_0000002"
NAME_FILE = "name.txt"
STEPS = ("--set", "train.steps=2", "--set", "train.batch_size=2", "--set", "train.checkpoint_every=1")


def prepare() -> None:
    """Write a checkpoint, and a run that was trained from it for two steps, with what it needs to resume."""
    torch.set_num_threads(1)
    write_checkpoint()
    call_command(*train_words())
    for path in (Path(RUN) / "checkpoints").iterdir():
        path.rename(path.name)


def train_words() -> list[str | Path]:
    """Return the words of a command that trains from the checkpoint."""
    sizes = "hidden=8 heads=1 expansion=1 inner_multiple=8 layers=1 h_cycles=1 l_cycles=1 id_slots=1 board_side=6"
    model = [word for size in sizes.split() for word in ("--set", f"model.{size}")]
    return ["train", "--recipe", "smoke", "--puzzles", Path(PUZZLES), "--run-dir", Path(RUN), *model, *STEPS]


def mutate(random: Random) -> str:
    """Alter a file of a checkpoint, which is the finished one or one that a run resumes from."""
    name = random.choice([CHECKPOINT, CHECKPOINT, RESUMED])
    done = mutate_sealed_folder(random, Path(name), ABOUT)
    Path(NAME_FILE).write_text(name)
    return f"{name}: {done}"


def read(random: Random) -> None:
    """Read the header, load the model and predict, make a backbone, train from it, or resume."""
    folder = Path(NAME_FILE).read_text()
    how = random.choice(
        ["load", "load", "predict", "backbone", "start"] if folder == CHECKPOINT else ["load", "resume"]
    )
    if how == "load":
        checkpoint = refusable(load_checkpoint, Path(folder))
        refusable(load_model, checkpoint, open_puzzle_set(PUZZLES))
        refusable(fingerprint, checkpoint)
        refusable(read_checkpoint_header, Path(folder))
    elif how == "predict":
        call_command("predict", *on_files(), "--out", "out")
    elif how == "backbone":
        call_command("backbone", folder, "--out", "backbone")
        load_checkpoint(Path("backbone"))
    else:
        _train(how)


def _train(how: str) -> None:
    """Train from the checkpoint, or resume from that of a run."""
    words = train_words()
    if how == "start":
        Path(RUN).rename("other_run")
        words += ["--checkpoint", CHECKPOINT]
    else:
        Path(RESUMED).rename(Path(RUN) / "checkpoints" / RESUMED)
    call_command(*words)
    load_checkpoint(Path(RUN) / "checkpoints" / "final")
