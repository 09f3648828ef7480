"""From train sources to a backbone: what `pretrain` does, in order.

In: a config, whose scored source stays unseen, and a run's folder. Out: the backbone's folder
(`pipeline.checkpoints.backbone`).
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from augment import PuzzleSet, SeenTasks, Selection, SourcedTasks, Task, load_tasks
from augment.errors import UserError
from augment.storage import read_json
from pipeline.checkpoints.backbone import describe_training, refuse_old, write_backbone
from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.config.setting_names import differences
from pipeline.data.build import build, gather, within
from pipeline.runtime.console import Console
from pipeline.runtime.distributed import join_process_group
from pipeline.runtime.launcher import is_first
from pipeline.runtime.run_folder import MAY_CHANGE, RunFolder
from pipeline.time_budget import Budget, format_duration
from pipeline.training.train import train


def pretrain(config: RunConfig, path: Path, out: Path) -> None:
    """Train on every pair of the train sources but for what is unseen, and write the backbone.

    The same call goes on with a run that was stopped, and replaces the backbone that an earlier part of it left. Of
    several processes (`torchrun`, `accelerate launch`) all train, and the first does the rest.

    Raises:
        ValueError: where there is nothing to train on, or `out` is something else.
    """
    check(config, out)
    budget = Budget(config.budget)
    processes = join_process_group()
    unseen = load_tasks(config.source, config.selection.selection())
    sources = gather([], Selection(), list(config.train_sources))
    run = RunFolder(path, config, first=is_first())
    kept = leave_out(sources, unseen, config.puzzles.max_side, run) if run.first else []
    puzzle_set = build(config, kept, run)
    trained = train(config, puzzle_set, run, budget)
    if processes.index == 0:
        shutil.rmtree(out, ignore_errors=True)  # the backbone of an earlier part of this run
        size = write_backbone(trained, out, _card(config, puzzle_set, len(unseen)) | describe_training(path))
        run.log(f"done in {format_duration(budget.used())}: {out}, {size:,} bytes")


def check(config: RunConfig, out: Path) -> None:
    """ValueError for what cannot be pretrained, and where `out` is there and no backbone of this run."""
    if not config.train_sources:
        raise ConfigError("pretrain: there is nothing to train on", "name a source with --train")
    if config.ensemble > 1:
        raise ConfigError(f"pretrain: a backbone is one model, and ensemble is {config.ensemble}", "set ensemble=1")
    if config.checkpoint:
        raise ConfigError(
            "pretrain: a backbone is trained from scratch, so that it is known what it has seen",
            "leave the checkpoint out",
        )
    try:
        theirs = read_json(out / "checkpoint.json")["config"]
        ours = not differences(theirs, config.model_dump(mode="json")).keys() - MAY_CHANGE
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        ours = False
    if not ours:
        refuse_old(out)


def leave_out(
    sources: Sequence[SourcedTasks], unseen: Sequence[Task], max_side: int | None, console: Console
) -> list[SourcedTasks]:
    """The train sources without tasks that hold an unseen one (`augment.contamination`) or are too large; says which.

    Raises:
        ValueError: where no task is left.
    """
    kept = []
    for source in sources:
        held = {found.holder for found in SeenTasks.remember(source.tasks).find_all(unseen)}
        if held:
            listed = ", ".join(sorted(held))
            console.log(f"left out of {source.source}, tasks that hold an unseen task ({len(held)}): {listed}")
        other = replace(source, tasks=[task for task in source.tasks if task.id not in held])
        small = within([other], max_side)[0]
        if large := len(other.tasks) - len(small.tasks):
            console.log(f"left out of {source.source}, tasks with a side over {max_side}: {large}")
        kept.append(small)
    if not any(source.tasks for source in kept):
        raise UserError("pretrain: no task is left to train on", "raise puzzles.max_side or name another --train")
    return kept


def _card(config: RunConfig, puzzle_set: PuzzleSet, unseen: int) -> dict[str, str]:
    """What the backbone was trained on."""
    sources = {name: puzzle_set.sources.count(name) for name in sorted(set(puzzle_set.sources))}
    listed = ", ".join(f"{name} ({count:,} tasks)" for name, count in sources.items())
    return {
        "recipe": config.recipe,
        "data": f"{listed}, each under up to {puzzle_set.requested:,} augmentations besides itself",
        "unseen": f"{unseen:,} tasks of {config.source}: no task that holds one of them was trained on",
    }
