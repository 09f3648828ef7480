"""The base config of each kind of puzzle at each scale, of which the rows of a table change some settings.

- smoke: tests that a table runs; its results mean nothing.
- cpu: about a minute per row and seed on one core, two or three minutes for ARC rows.
- gpu: minutes per row on one GPU.
- paper: the published data and sizes, which take days of GPU time; not run by us.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from augment import Selection, load_tasks
from augment.logic_puzzles.source import is_logic_puzzle_folder
from pipeline.config.run_config import (
    ConfigError,
    PredictSettings,
    PuzzleSettings,
    RunConfig,
    SelectionSettings,
    TrainSettings,
)
from pipeline.experiments.spec import Group
from pipeline.recipes.gpu import arc1, arc1_fast_trm, arc2
from solver.model.config import ModelConfig

Scale = Literal["smoke", "cpu", "gpu", "paper"]
SCALES = get_args(Scale)

PUBLISHED_DATA = {"sudoku": "sudoku-extreme", "sudoku9": "sudoku-extreme", "maze": "maze-hard"}
"""Folders of published CSV files that must be in the folder `--data` at paper scale."""


def base_config(group: Group, scale: Scale, data: Path | None = None) -> RunConfig:
    """Return the base config of a kind of puzzle at a scale.

    The learning rate of Muon and NorMuon is set to Adam's, so that rows with them need not set it.

    Raises:
        ConfigError: the scale is "paper" and the published data is not in the folder `data`.
    """
    config = ARC_BASES[scale, group]() if group.startswith("arc") else _logic_puzzles(group, scale, data)
    train = config.train.model_copy(update={"muon_lr": config.train.lr})
    return config.model_copy(update={"recipe": f"{group} at {scale} scale", "train": train})


def _logic_puzzles(group: Group, scale: Scale, data: Path | None) -> RunConfig:
    source, side, model, train = BOARDS[scale, group]
    if scale == "paper" and group in PUBLISHED_DATA:
        source = _find_published_data(group, data)
    shape: dict[str, Any] = {"mixer": "mlp", "board_side": side, "h_cycles": 3, "l_cycles": 6}
    symmetry: dict[str, Any] = {"shift": False, "symmetry": "sudoku" if group.startswith("sudoku") else "dihedral"}
    return RunConfig(
        recipe=group,
        source=source,
        puzzles=PuzzleSettings(augmentations=0),
        model=ModelConfig(**(shape | model)),
        train=TrainSettings(**(symmetry | train)),
    )


def _find_published_data(group: Group, data: Path | None) -> str:
    name = PUBLISHED_DATA[group]
    folder = None if data is None else data / name
    if folder is None or not is_logic_puzzle_folder(str(folder)):
        raise ConfigError(
            f"--scale paper: needs the published files of {name}",
            f"put its train.csv and test.csv into FOLDER/{name} and give --data FOLDER, or choose another scale",
        )
    return str(folder)


TINY: dict[str, Any] = {"hidden": 16, "heads": 2, "expansion": 2, "inner_multiple": 16, "id_slots": 1, "max_steps": 2}
TINY_TRAIN: dict[str, Any] = {"steps": 6, "batch_size": 8, "lr": 1e-3, "warmup": 2, "average": 0.9, "log_every": 3}
SMALL: dict[str, Any] = {"hidden": 32, "heads": 2, "expansion": 2, "inner_multiple": 32, "id_slots": 1, "max_steps": 8}
SMALL_TRAIN: dict[str, Any] = {
    "steps": 500,
    "batch_size": 64,
    "lr": 3e-3,
    "warmup": 50,
    "average": 0.99,
    "log_every": 100,
}
LARGE: dict[str, Any] = {"hidden": 256, "heads": 4, "max_steps": 16}
LARGE_TRAIN: dict[str, Any] = {"steps": 4000, "batch_size": 768, "lr": 3e-4, "warmup": 200, "weight_decay": 1.0}
PUBLISHED_TRAIN: dict[str, Any] = {"weight_decay": 1.0, "id_lr": 1e-4, "id_weight_decay": 1.0}

BOARDS: dict[tuple[str, str], tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    ("smoke", "sudoku"): ("sudoku-4x4/30+12", 4, TINY, TINY_TRAIN),
    ("smoke", "maze"): ("maze-5x5/30+12", 5, TINY, TINY_TRAIN),
    ("cpu", "sudoku"): ("sudoku-4x4/50+500", 4, SMALL, SMALL_TRAIN | {"symmetries": 0}),
    ("cpu", "maze"): (
        "maze-10x10/1000+500",
        10,
        SMALL | {"max_steps": 4},
        SMALL_TRAIN | {"steps": 150, "batch_size": 32},
    ),
    ("smoke", "queens"): ("queens-5x5/20+8", 5, TINY, TINY_TRAIN),
    ("cpu", "queens"): (
        "queens-7x7/800+150",
        7,
        SMALL | {"h_cycles": 2, "l_cycles": 3, "max_steps": 4},
        SMALL_TRAIN | {"steps": 1500, "symmetries": 0},
    ),
    ("gpu", "queens"): ("queens-8x8/2000+700", 8, LARGE, LARGE_TRAIN | {"symmetries": 0}),
    ("gpu", "sudoku"): ("sudoku-9x9/1000+1000", 9, LARGE, LARGE_TRAIN),
    ("gpu", "maze"): ("maze-20x20/1000+1000", 20, LARGE, LARGE_TRAIN | {"batch_size": 256}),
    ("smoke", "sudoku9"): ("sudoku-9x9/30+12", 9, TINY, TINY_TRAIN),
    ("cpu", "sudoku9"): ("sudoku-9x9/1000+500", 9, SMALL, SMALL_TRAIN | {"steps": 1000, "batch_size": 32}),
    ("gpu", "sudoku9"): ("sudoku-9x9/1000+1000", 9, LARGE, LARGE_TRAIN),
    ("paper", "sudoku9"): ("", 9, {}, PUBLISHED_TRAIN | {"steps": 65_104}),
    ("paper", "sudoku"): ("", 9, {}, PUBLISHED_TRAIN | {"steps": 65_104}),
    ("paper", "queens"): (
        "queens-8x8/2000+700",
        8,
        {"l_cycles": 4},
        PUBLISHED_TRAIN | {"steps": 30_000, "symmetries": 0},
    ),
    ("paper", "maze"): ("", 30, {"l_cycles": 4}, PUBLISHED_TRAIN | {"steps": 65_104}),
}
"""(source, board side, model settings, training settings) by scale and group.

The steps at paper scale are 50,000 epochs of 1000 puzzles, in batches of 768.
"""


def _tiny_arc(source: str) -> RunConfig:
    shape: dict[str, Any] = {"h_cycles": 1, "l_cycles": 2, "board_side": 5, "canvas": "task"}
    return RunConfig(
        recipe="arc",
        source=source,
        selection=SelectionSettings(max_side=3, limit=3),
        puzzles=PuzzleSettings(augmentations=2),
        model=ModelConfig(**(TINY | shape)),
        train=TrainSettings(shift=False, **TINY_TRAIN),
        predict=PredictSettings(augmentations=3),
    )


@cache
def _side_six() -> SelectionSettings:
    """Return the 21 ARC-AGI-1 training tasks with largest side 6, selected by ID."""
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=6))
    return SelectionSettings(tasks=tuple(task.id for task in tasks if task.max_side == 6))


def _small_arc(source: str, selection: SelectionSettings | None = None, board: int = 6) -> RunConfig:
    """Return the config for small ARC tasks, by default those up to 5x5 on a board of side 6.

    The small board allows TRM-MLP too, which needs the whole board as its canvas.
    """
    return RunConfig(
        recipe="arc",
        source=source,
        selection=selection or SelectionSettings(max_side=5),
        puzzles=PuzzleSettings(augmentations=7),
        model=ModelConfig(
            hidden=64,
            heads=2,
            expansion=3,
            inner_multiple=64,
            h_cycles=1,
            l_cycles=3,
            id_slots=1,
            max_steps=2,
            board_side=board,
            canvas="task",
        ),
        train=TrainSettings(
            steps=1500, batch_size=32, lr=1e-3, warmup=100, min_ratio=0.1, average=0.995, shift=False, log_every=200
        ),
        predict=PredictSettings(steps=4),
    )


def _side_six_arc() -> RunConfig:
    """Return the config for ARC tasks with largest side 6, with more and smaller steps than `_small_arc`.

    Batches of 8 examples train better here than batches of 32 (`docs/lab_notebook.md`).
    """
    base = _small_arc("arc-agi-1/training", _side_six(), 7)
    small_steps = {"steps": 4000, "batch_size": 8, "warmup": 200, "average": 0.998, "log_every": 500}
    return base.model_copy(update={"train": base.train.model_copy(update=small_steps)})


ARC_BASES = {
    ("smoke", "arc"): lambda: _tiny_arc("arc-agi-1/training"),
    ("smoke", "arc6"): lambda: _tiny_arc("arc-agi-1/training"),
    ("cpu", "arc6"): _side_six_arc,
    ("gpu", "arc6"): arc1_fast_trm,
    ("paper", "arc6"): arc1,
    ("smoke", "arc2"): lambda: _tiny_arc("arc-agi-2/training"),
    ("cpu", "arc"): lambda: _small_arc("arc-agi-1/training"),
    ("cpu", "arc2"): lambda: _small_arc("arc-agi-2/training"),
    ("gpu", "arc"): arc1_fast_trm,
    ("gpu", "arc2"): lambda: arc1_fast_trm().model_copy(
        update={"source": "arc-agi-2/evaluation", "train_sources": ("arc-agi-2/training", "concept")}
    ),
    ("paper", "arc"): arc1,
    ("paper", "arc2"): arc2,
}
