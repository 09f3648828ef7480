"""Notebooks run from their first to their last cell on small runs, and keep no output."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from augment import load_tasks
from augment.sources.load import CHALLENGES
from augment.text_files import read_json
from pipeline.cli.main import main
from pipeline.kaggle import notebook
from submissions.submission_file import check_grids, read_submission, validate_submission
from tests.helpers.paths import ROOT

FOLDER = ROOT / "notebooks"
SMOKE = ["solve", "--recipe", "smoke", "--set", "train.steps=4", "--set", "puzzles.augmentations=2"]
PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}
TASK = {"train": [PAIR, PAIR], "test": [{"input": [[5]]}, {"input": [[6]]}]}


def execute(name: str) -> NotebookNode:
    """The notebook with its outputs."""
    found = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(found, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    return found


def shown(found: NotebookNode) -> str:
    """All outputs as text, HTML where there is some."""
    texts = []
    for cell in found.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            texts.append(data.get("text/html") or data.get("text/plain") or output.get("text", ""))
    return "\n".join(texts)


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "smoke"
    with pytest.raises(SystemExit) as ended:
        main([*SMOKE, "--run-dir", str(run)])
    assert not ended.value.code
    return run


def test_explore_shows_a_run(smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARC_TRM_RUN", str(smoke_run))
    text = shown(execute("explore.ipynb"))
    assert "arc-agi-1/training: 4 tasks, 7 test outputs" in text
    assert "<h4>Recursion</h4>" in text
    assert text.count("<svg") >= 12
    assert "answer_moved" in text


def test_explore_says_what_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARC_TRM_RUN", str(tmp_path))
    with pytest.raises(CellExecutionError, match="holds no predictions"):
        execute("explore.ipynb")


def test_train_and_score_tells_the_story_that_solve_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["train.steps=4", "puzzles.augmentations=2", "selection.limit=3"]
    knobs = {"RECIPE": "smoke", "MAX_SIDE": "4", "BUDGET": "1m", "SETTINGS": json.dumps(asked)}
    for name, value in (knobs | {"RUN": str(tmp_path / "told")}).items():
        monkeypatch.setenv(f"ARC_TRM_{name}", value)
    text = shown(execute("train_and_score.ipynb"))
    assert "4 steps" in text
    assert "arc-agi-1/evaluation" in text
    words = ["solve", "arc-agi-1/evaluation", "--recipe", "smoke", "--max-side", "4", "--budget", "1m"]
    with pytest.raises(SystemExit):
        main([*words, *(f"--set={each}" for each in asked), "--run-dir", str(tmp_path / "solved")])
    told, solved = tmp_path / "told", tmp_path / "solved"
    assert read_submission(told / "submission.json") == read_submission(solved / "submission.json")
    assert read_json(told / "score.json") == read_json(solved / "score.json")
    assert (told / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.ipynb")), ids=lambda file: file.name)
def test_notebooks_keep_no_outputs(file: Path) -> None:
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


Cells = Callable[[], dict[str, Any]]


@pytest.fixture
def find_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    """Run the Kaggle notebook's cells of code before anything is installed; gives their variables."""
    monkeypatch.setenv("ARC_TRM_INPUT", str(tmp_path))
    code = [cell.source for cell in nbformat.read(FOLDER / "kaggle_submission.ipynb", as_version=4).cells[1:4:2]]

    def run() -> dict[str, Any]:
        variables: dict[str, Any] = {}
        exec("\n".join(code), variables)
        return variables

    return run


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")


def test_inputs_are_found_wherever_they_are_mounted(
    tmp_path: Path, find_inputs: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = tmp_path / "competitions" / "arc-prize-2031-x" / f"arc-agi_test{CHALLENGES}"
    other = tmp_path / "a-copy" / f"arc-agi_test{CHALLENGES}"
    bundle = tmp_path / "datasets" / "me" / "mine"
    put(hidden, other, bundle / "wheels" / "arc_trm-0.1.0-py3-none-any.whl", bundle / "t" / "checkpoint.json")
    found = find_inputs()
    assert found["CHALLENGES"] == hidden
    assert found["WHEEL"].parent == bundle / "wheels"
    assert found["BACKBONE"] == bundle / "t"
    assert f"not taken: {other.relative_to(tmp_path)}" in capsys.readouterr().out


def attach(folder: Path, content: str) -> Path:
    """A folder with a test file of this content."""
    put(folder / f"arc-agi_test{CHALLENGES}", folder.with_name("arc_trm-0.1.0-py3-none-any.whl"))
    (folder / f"arc-agi_test{CHALLENGES}").write_text(content)
    return folder / f"arc-agi_test{CHALLENGES}"


@pytest.mark.parametrize("rerun", ["", "1"])
@pytest.mark.parametrize(
    ("newest", "other"),
    [
        ("competitions/arc-prize-2033-arc-agi-4", "competitions/arc-prize-2025"),
        ("arc-prize-2033", "arc-prize-2032-b"),
        ("arc-prize-2025", "datasets/user2033/arc-prize-2033-copy"),
        ("arc-prize-2025", "arc-prize"),
        ("competitions/zzz-arc-prize-2033", "competitions/2040-tasks"),
    ],
)
def test_of_several_competitions_the_newest_is_taken(
    newest: str,
    other: str,
    rerun: str,
    tmp_path: Path,
    find_inputs: Cells,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", rerun)
    file = attach(tmp_path / newest, "{}")
    attach(tmp_path / other, "[]")
    assert find_inputs()["CHALLENGES"] == file
    assert f"not taken: {other}" in capsys.readouterr().out


def test_competitions_of_one_year_stop_the_commit_run_alone(
    tmp_path: Path, find_inputs: Cells, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = attach(tmp_path / "arc-prize-2033-a", "{}")
    second = attach(tmp_path / "arc-prize-2033-b", "[]")
    with pytest.raises(ValueError, match=r"set CHALLENGES to .*arc-prize-2033-a/.* or arc-prize-2033-b/"):
        find_inputs()
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert find_inputs()["CHALLENGES"] == first
    assert "WARNING: set CHALLENGES" in capsys.readouterr().out
    for value in (second, second.relative_to(tmp_path)):
        for rerun in ("", "1"):
            monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", rerun)
            monkeypatch.setenv("ARC_TRM_CHALLENGES", str(value))
            assert find_inputs()["CHALLENGES"] == second


def test_a_competition_that_is_mounted_twice_is_one(tmp_path: Path, find_inputs: Cells) -> None:
    file = attach(tmp_path / "arc-prize-2033", "{}")
    attach(tmp_path / "competitions" / "arc-prize-2033", "{}")
    assert find_inputs()["CHALLENGES"] == file


def test_a_name_of_no_file_stops_the_commit_run_alone(
    tmp_path: Path, find_inputs: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = attach(tmp_path / "arc-prize-2033", "{}")
    monkeypatch.setenv("ARC_TRM_CHALLENGES", "arc-prize-2034/tasks.json")
    with pytest.raises(ValueError, match=r"CHALLENGES is arc-prize-2034/tasks\.json"):
        find_inputs()
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    assert find_inputs()["CHALLENGES"] == file


def test_inputs_are_found_through_links(tmp_path: Path, find_inputs: Cells) -> None:
    elsewhere = tmp_path.with_name(f"{tmp_path.name}_elsewhere")
    put(elsewhere / f"arc-agi_test{CHALLENGES}", elsewhere / "arc_trm-1-py3-none-any.whl")
    (tmp_path / "arc-prize").symlink_to(elsewhere)
    assert find_inputs()["CHALLENGES"] == tmp_path / "arc-prize" / f"arc-agi_test{CHALLENGES}"


def test_what_is_not_attached_is_said(
    tmp_path: Path, find_inputs: Cells, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError, match="the competition's data is not under"):
        find_inputs()
    put(tmp_path / f"arc-agi_test{CHALLENGES}")
    with pytest.raises(FileNotFoundError, match="python -m pipeline bundle"):
        find_inputs()
    put(tmp_path / "arc_trm-0.1.0-py3-none-any.whl")
    assert find_inputs()["BACKBONE"] is None
    assert "without a backbone" in capsys.readouterr().out
    monkeypatch.setenv("ARC_TRM_CHECKPOINT", str(tmp_path))
    assert find_inputs()["BACKBONE"] == tmp_path


@pytest.mark.parametrize(
    ("set_to", "rerun", "budget"), [("", False, "5m"), ("1", True, "11h50m"), ("y", True, "11h50m")]
)
def test_the_scored_run_is_told_from_the_commit_run(
    tmp_path: Path, find_inputs: Cells, monkeypatch: pytest.MonkeyPatch, set_to: str, rerun: bool, budget: str
) -> None:
    put(tmp_path / f"arc-agi_test{CHALLENGES}", tmp_path / "arc_trm-0.1.0-py3-none-any.whl")
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", set_to)
    found = find_inputs()
    assert (found["RERUN"], found["BUDGET"]) == (rerun, budget)


def test_the_filler_is_complete_whatever_is_in_the_file(tmp_path: Path) -> None:
    file, out = tmp_path / f"arc-agi_test{CHALLENGES}", tmp_path / "submission.json"
    file.write_text(json.dumps({"one": TASK, "broken": {"train": 3, "test": [1, 2, 3]}}))
    notebook.write_placeholder(file, out)
    found = read_submission(out)
    assert {task: len(entries) for task, entries in found.items()} == {"one": 2, "broken": 3}
    check_grids(found, out)
    file.write_text(json.dumps({"one": TASK}))
    validate_submission({"one": found["one"]}, load_tasks(file))


def test_what_a_command_says_comes_out_plain(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    code = notebook.run_command("validate", "nowhere.json", "arc-agi-1/training")
    said = capfd.readouterr().out
    assert code == 2
    assert "error: nowhere.json" in said
    assert "\x1b" not in said


def test_what_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=2.0", "torch>=2.8", "joblib>=99", "no-such-package>=1"]
    installed = {"numpy": "2.0.2", "torch": "2.10.0+cu128", "joblib": "1.5"}
    monkeypatch.setattr(notebook, "version", lambda name: installed.get(name) or version(name))
    monkeypatch.setattr(notebook, "requires", lambda name: needed)
    assert notebook.find_unmet() == [
        "joblib>=99 is needed, and 1.5 is installed",
        "no-such-package>=1 is needed, and it is not installed",
    ]


def test_a_run_is_kept_described_and_drawn(smoke_run: Path, tmp_path: Path) -> None:
    notebook.keep(smoke_run, tmp_path)
    kept = {file.name for file in tmp_path.iterdir()}
    assert {"log.txt", "config.json", "report.html", "score.json"} <= kept
    assert not {"puzzles", "checkpoints", "predictions", "submission.json"} & kept
    score = read_json(smoke_run / "score.json")
    assert f"arc-agi-1/training: 4 tasks, 7 test outputs, macro pass@2 {score['pass@2']['macro']:.1%}" in (
        notebook.describe_run(smoke_run)
    )
    drawn = notebook.pictures(smoke_run, most=2)
    assert drawn.count("<h3>") == 2
    assert "<h4>Recursion</h4>" in drawn


def test_a_run_that_ended_early_is_described_and_drawn_too(smoke_run: Path, tmp_path: Path) -> None:
    for name in ("config.json", "submission.json"):
        (tmp_path / name).write_bytes((smoke_run / name).read_bytes())
    (tmp_path / "incidents.json").write_text('["the disk was full"]')
    assert notebook.describe_run(tmp_path).splitlines()[0].startswith("no score")
    assert "incident: the disk was full" in notebook.describe_run(tmp_path)
    assert notebook.pictures(tmp_path).count("<h3>") == 4
