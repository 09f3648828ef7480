"""Load ARC tasks and build puzzle sets from them: grids, tasks, augmentations and storage."""

from augment.augmentation import IDENTITY, Augmentation, decode_numbers, parse_puzzle_key, puzzle_key
from augment.build import build_puzzle_set, extend_puzzle_set
from augment.canvas import task_canvas
from augment.colour_draws import Draws, FixedColours, draw_transforms
from augment.contamination import Overlap, SeenTasks
from augment.dihedral import DIHEDRAL_INVERSE, DIHEDRAL_PRODUCT, DIHEDRALS, TRANSPOSES, apply, invert, source_cell
from augment.distinct import count_distinct, draw_augmentations, find_symmetries
from augment.grid import COLOURS, MAX_SIDE, Grid, GridError, grid_hash, parse_grid
from augment.logic_puzzles.recognition import describe_logic_puzzles
from augment.merge import DroppedTask, Duplicates, LeakError, OnLeak, Role, SourcedTasks
from augment.puzzle_set import MAX_PAIRS, PuzzleSet
from augment.puzzle_set_files import open_puzzle_set, write_puzzle_set
from augment.sources.files import SourceError
from augment.sources.load import SOURCES, LoadedSource, find_source_label, load_source, load_tasks
from augment.sources.reading import LeftOut
from augment.task import Pair, Selection, Task, TaskError, parse_pair_list, parse_task, select_tasks

__all__ = [
    "COLOURS",
    "DIHEDRALS",
    "DIHEDRAL_INVERSE",
    "DIHEDRAL_PRODUCT",
    "IDENTITY",
    "MAX_PAIRS",
    "MAX_SIDE",
    "SOURCES",
    "TRANSPOSES",
    "Augmentation",
    "Draws",
    "DroppedTask",
    "Duplicates",
    "FixedColours",
    "Grid",
    "GridError",
    "LeakError",
    "LeftOut",
    "LoadedSource",
    "OnLeak",
    "Overlap",
    "Pair",
    "PuzzleSet",
    "Role",
    "SeenTasks",
    "Selection",
    "SourceError",
    "SourcedTasks",
    "Task",
    "TaskError",
    "apply",
    "build_puzzle_set",
    "count_distinct",
    "decode_numbers",
    "describe_logic_puzzles",
    "draw_augmentations",
    "draw_transforms",
    "extend_puzzle_set",
    "find_source_label",
    "find_symmetries",
    "grid_hash",
    "invert",
    "load_source",
    "load_tasks",
    "open_puzzle_set",
    "parse_grid",
    "parse_pair_list",
    "parse_puzzle_key",
    "parse_task",
    "puzzle_key",
    "select_tasks",
    "source_cell",
    "task_canvas",
    "write_puzzle_set",
]
