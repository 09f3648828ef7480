"""Train a backbone (`pipeline.checkpoints.backbone`) on train sources, without the tasks of the scored source."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from augment import PuzzleSet, SeenTasks, Selection, SourcedTasks, Task, load_tasks
from augment.errors import UserError
from augment.storage import refuse_existing
from augment.text_files import read_json
from pipeline.checkpoints.backbone import describe_training, write_backbone
from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.config.setting_names import differences
from pipeline.data.build import build, gather, within
from pipeline.runtime.console import Console
from pipeline.runtime.distributed import join_process_group
from pipeline.runtime.launcher import is_first
from pipeline.runtime.run_folder import MAY_CHANGE, RunFolder
from pipeline.time_budget import Budget, format_duration
from pipeline.training.size_limits import check_training
from pipeline.training.train import train


def pretrain(config: RunConfig, path: Path, out: Path) -> None:
    """Train on every pair of the train sources, except tasks that contain a scored one, and write the backbone.

    The same call resumes a run that was stopped, and replaces the backbone that an earlier call wrote. Of several
    processes (`torchrun`, `accelerate launch`) all train, and the first one alone builds and writes.

    Args:
        config: of the run; the tasks of its source stay unseen.
        path: the run folder.
        out: the backbone's folder.

    Raises:
        UserError: if there is nothing to train on, or `out` exists and is not a backbone of this run.
    """
    check(config, out)
    check_training(config)
    budget = Budget(config.budget)
    processes = join_process_group()
    unseen = load_tasks(config.source, config.selection.selection())
    sources = gather([], Selection(), list(config.train_sources))
    run = RunFolder(path, config, first=is_first())
    # Only the first process builds; the others read its puzzle set.
    clean = leave_out(sources, unseen, config.puzzles.max_side, run) if run.first else []
    puzzle_set = build(config, clean, run)
    checkpoint = train(config, puzzle_set, run, budget)
    if processes.index == 0:
        card = _card(config, puzzle_set, len(unseen)) | describe_training(path)
        # `check` allows only the backbone of an earlier call to be replaced.
        size = write_backbone(checkpoint, out, card, replace_old=True)
        run.log(f"done in {format_duration(budget.used())}: {out}, {size:,} bytes")


def check(config: RunConfig, out: Path) -> None:
    """Raise UserError if the config cannot be pretrained, or if `out` exists and is not a backbone of this run."""
    if not config.train_sources:
        raise ConfigError("pretrain: there is nothing to train on", "name a source with --train")
    if config.ensemble > 1:
        raise ConfigError(f"pretrain: a backbone is one model, and ensemble is {config.ensemble}", "set ensemble=1")
    if config.checkpoint:
        raise ConfigError(
            "pretrain: a backbone is trained from scratch, so that all tasks it was trained on are known",
            "leave the checkpoint out",
        )
    try:
        old_config = read_json(out / "checkpoint.json")["config"]
        same_run = not differences(old_config, config.model_dump(mode="json")).keys() - MAY_CHANGE
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        same_run = False
    if not same_run:
        refuse_existing(out)


def leave_out(
    sources: Sequence[SourcedTasks], unseen: Sequence[Task], max_side: int | None, console: Console
) -> list[SourcedTasks]:
    """Return the train sources without tasks that contain an unseen one or are too large, and log which those are.

    Args:
        sources: the train sources.
        unseen: tasks that no train task may contain (`augment.contamination`).
        max_side: the largest side of a grid; None for no limit.
        console: for the log lines.

    Raises:
        UserError: if no task is left.
    """
    clean = []
    for source in sources:
        overlapping = {overlap.holder for overlap in SeenTasks.remember(source.tasks).find_all(unseen)}
        if overlapping:
            names = ", ".join(sorted(overlapping))
            console.log(f"left out of {source.source}, tasks that contain an unseen task ({len(overlapping)}): {names}")
        disjoint = replace(source, tasks=[task for task in source.tasks if task.id not in overlapping])
        small = within([disjoint], max_side)[0]
        if large := len(disjoint.tasks) - len(small.tasks):
            console.log(f"left out of {source.source}, tasks with a side over {max_side}: {large}")
        clean.append(small)
    if not any(source.tasks for source in clean):
        raise UserError(
            "pretrain: no task is left to train on", "raise puzzles.max_side or name another source with --train"
        )
    return clean


def _card(config: RunConfig, puzzle_set: PuzzleSet, unseen: int) -> dict[str, str]:
    """Return what the backbone was trained on, for its card."""
    sources = {name: puzzle_set.sources.count(name) for name in sorted(set(puzzle_set.sources))}
    source_list = ", ".join(f"{name} ({count:,} tasks)" for name, count in sources.items())
    return {
        "recipe": config.recipe,
        "data": f"{source_list}, each under up to {puzzle_set.requested:,} augmentations besides itself",
        "unseen": f"{unseen:,} tasks of {config.source}: no task that contains one of them was trained on",
    }
