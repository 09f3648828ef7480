"""Unattended runs, small but complete: their time, their files and their end are as documented."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from augment import Selection, load_tasks
from pipeline.checkpoints.checkpoint import seal_checkpoint
from pipeline.config.run_config import TrainSettings, UnattendedSettings, override, parse_assignments
from pipeline.kaggle import child_process, supervisor
from pipeline.kaggle.backbone_settings import take_backbone_settings
from pipeline.kaggle.supervisor import Supervisor
from pipeline.kaggle.unattended import solve_unattended
from pipeline.recipes.registry import recipe
from submissions.submission_file import read_submission
from tests.helpers.paths import ROOT

TINY = [
    *(
        "model.hidden=32",
        "model.heads=2",
        "model.h_cycles=1",
        "model.l_cycles=2",
        "model.id_slots=1",
        "model.max_steps=2",
    ),
    *(
        "puzzles.augmentations=3",
        "train.batch_size=16",
        "train.lr=1e-3",
        "train.log_every=5",
        "train.checkpoint_every=10",
    ),
]


def write_challenges(folder: Path, broken: bool = False) -> Path:
    """Write four real tasks with hidden outputs, and if `broken` a malformed one in the middle."""
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=4))
    value: dict[str, Any] = {
        task.id: {
            "train": [{"input": p.input.tolist(), "output": p.output.tolist()} for p in task.demonstrations],  # type: ignore[union-attr]
            "test": [{"input": pair.input.tolist()} for pair in task.tests],
        }
        for task in tasks
    }
    if broken:
        items = list(value.items())
        value = dict([*items[:2], ("5badc0de", {"train": [{"input": [[1, 2], [3]]}], "test": [{}, {}]}), *items[2:]])
    file = folder / "arc-agi_test_challenges.json"
    file.write_text(json.dumps(value))
    return file


def start(file: Path, run: Path, *more: str, budget: str = "60s") -> subprocess.Popen[str]:
    """Start the command in a process that prints at its end whether it imported torch."""
    script = "import os, sys; from pipeline.__main__ import main\n"
    script += "os._exit = lambda code: (print('TORCH', 'torch' in sys.modules), sys.exit(code))\nmain(sys.argv[1:])"
    settings = [f"--set={text}" for text in (*TINY, *more)]
    words = ["solve", str(file), "--recipe", "kaggle", "--budget", budget, "--run-dir", str(run), *settings]
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def complete(submission: Path, file: Path) -> bool:
    entries = read_submission(submission)
    tasks = json.loads(file.read_text())
    return entries.keys() == tasks.keys() and all(len(entries[name]) == len(tasks[name]["test"]) for name in tasks)


def test_a_run_from_placeholders_to_predictions_without_torch(tmp_path: Path) -> None:
    file, run = write_challenges(tmp_path, broken=True), tmp_path / "run"
    begin = time.monotonic()
    process = start(file, run, "train.steps=6", "train.log_every=2", budget="3m")
    while not (run / "submission.json").exists():
        assert time.monotonic() - begin < 30
        time.sleep(0.05)
    assert complete(run / "submission.json", file)
    output, _ = process.communicate(timeout=170)
    assert process.returncode == 0, output
    assert "TORCH False" in output
    assert re.search(r"is complete and valid, [1-7] of 9 test inputs answered", output)
    assert complete(run / "submission.json", file)
    (incident,) = json.loads((run / "incidents.json").read_text())
    assert "5badc0de" in incident
    assert (run / "report.html").exists()
    assert (run / "passes" / "1" / "predictions.json").exists()


def test_a_run_that_gets_sigterm_ends_with_what_it_has(tmp_path: Path) -> None:
    file, run = write_challenges(tmp_path), tmp_path / "run"
    process = start(file, run, budget="10m")
    metrics = run / "metrics.jsonl"
    begin = time.monotonic()
    while not metrics.exists():
        assert time.monotonic() - begin < 60
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "asked to end" in output
    assert complete(run / "submission.json", file)
    assert list((run / "checkpoints").glob("step_*")), "the trained weights are kept"


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = recipe("kaggle")
    with pytest.raises(ValueError, match="--budget"):
        solve_unattended(config, tmp_path / "run")
    with pytest.raises(ValueError, match="no source"):
        solve_unattended(config.model_copy(update={"budget": 60.0, "source": "nothing.json"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="must grow"):
        UnattendedSettings(passes=(0.4, 0.1))


def test_a_backbone_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    config = recipe("kaggle")
    (tmp_path / "checkpoint.json").write_text('{"format": 3, "files": ')
    same, backbone, incidents = take_backbone_settings(config, tmp_path)
    assert (same, backbone) == (config, None)
    assert "from scratch" in incidents[0]
    assert take_backbone_settings(config, None) == (config, None, [])


def test_a_backbone_with_a_symbol_axis_brings_its_settings(tmp_path: Path) -> None:
    symbols = recipe("smoke_symbols")
    seal_checkpoint(tmp_path, 1, symbols.model_dump(mode="json"), [])
    config, backbone, incidents = take_backbone_settings(recipe("kaggle"), tmp_path)
    assert (config.model, backbone, incidents) == (symbols.model, tmp_path, [])
    assert (config.puzzles.ids, config.puzzles.augmentations) == ("transform", 7)
    assert config.train == recipe("kaggle").train


def test_the_recipe_fits_its_schedule_to_the_time() -> None:
    config = recipe("kaggle")
    assert config.unattended is not None
    assert config.train.fit
    assert not TrainSettings().fit
    assert os.environ.get("KAGGLE_IS_COMPETITION_RERUN") is None


def make_supervisor(tmp_path: Path) -> Supervisor:
    """Return a supervisor that has written the placeholder, and nothing else."""
    config = override(recipe("kaggle"), {"source": str(write_challenges(tmp_path)), "budget": "60s"})
    return Supervisor(config, tmp_path / "run", None, 1)


def test_a_warning_that_every_stage_repeats_is_one_incident(tmp_path: Path) -> None:
    unattended = make_supervisor(tmp_path)
    for message in ("no compiler", "old card", "no compiler"):
        unattended.incidents.report_once(message)
    assert json.loads((tmp_path / "run" / "incidents.json").read_text()) == ["no compiler", "old card"]


def run_with_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, budget: str) -> bool:
    """Run unattended with a script in place of every stage process; return whether it succeeded."""
    monkeypatch.setattr(supervisor, "LONGEST_START", 0.0)  # the process of the tests has run for longer
    monkeypatch.setattr(child_process, "launch_command", lambda *_: [sys.executable, "-c", script])
    changes = parse_assignments(TINY) | {"source": str(write_challenges(tmp_path)), "budget": budget}
    return solve_unattended(override(recipe("kaggle"), changes), tmp_path / "run", tmp_path / "out.json", 1)


@pytest.mark.parametrize(("seconds", "budget"), [(0, "60s"), (2, "14s")], ids=["given up", "time over before that"])
def test_a_run_in_which_every_training_fails_leaves_the_placeholder_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, budget: str
) -> None:
    script = f"import time; time.sleep({seconds}); raise RuntimeError('no kernel image')"
    assert not run_with_training(tmp_path, monkeypatch, script, budget)
    assert complete(tmp_path / "out.json", tmp_path / "arc-agi_test_challenges.json")
    incidents = json.loads((tmp_path / "run" / "incidents.json").read_text())
    assert "RuntimeError: no kernel image" in incidents[0]
    assert incidents[-1] == "nothing was learned: every training failed, and the submission stays as it was"


def test_training_that_hangs_before_its_first_checkpoint_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_WITHOUT_CHECKPOINT", 1.0)
    monkeypatch.setattr(supervisor, "LEAST_GRACE", 0.1)
    assert not run_with_training(tmp_path, monkeypatch, "import time; time.sleep(60)", "12s")


def test_too_little_time_is_no_failure_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LEAST_GRACE", 0.1)
    assert run_with_training(tmp_path, monkeypatch, "import time; time.sleep(60)", "12s")


def test_a_training_that_failed_after_its_first_checkpoint_has_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run" / "checkpoints" / "step_0000001"
    script = f"from pathlib import Path; Path({str(folder)!r}).mkdir(parents=True, exist_ok=True); 1 / 0"
    assert run_with_training(tmp_path, monkeypatch, script, "20s")
