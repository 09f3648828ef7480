"""Reproduction of published tables: rows, resuming, verdicts, the page."""

import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from augment import load_tasks
from pipeline.config.run_config import override
from pipeline.experiments.equal_flop import training_flop
from pipeline.experiments.model_zoo import MEMBERS, count_parameters
from pipeline.experiments.paper_tables import TABLES, Claim, Row
from pipeline.experiments.plots import Series, draw_series
from pipeline.experiments.run_table import TableRequest, choose_rows, make_trials, run_table
from pipeline.experiments.scales import SCALES, base_config
from pipeline.experiments.trial import Trial, run_trial
from pipeline.experiments.verdicts import Results, judge, make_line
from pipeline.recipes.small import cpu
from pipeline.runtime import machine
from tests.helpers.commands import refuse, run
from tests.helpers.process_family import wait_until

SMOKE = "smoke"
LONG = ("arc", "depth")
"""Tables that take long even at the smoke scale."""


def order(name: str, out: Path, **changes: Any) -> TableRequest:
    return TableRequest(**({"name": name, "scale": SMOKE, "seeds": 1, "jobs": 1, "out": out} | changes))


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the first table, run with two seeds in two processes."""
    out = tmp_path_factory.mktemp("tables") / "ablation"
    assert run("table", "sudoku-ablation", "--seeds", "2", "--jobs", "2", "--out", out) == 0
    return out


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_row_is_a_config(name: str, scale: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("sudoku-extreme", "maze-hard"):
        (data / folder).mkdir(parents=True)
        for part in ("train", "test"):
            (data / folder / f"{part}.csv").touch()
    table = TABLES[name]
    configs = {}
    for row in table.rows:
        base = base_config(row.group, scale, data)
        configs[row.name] = override(base, dict(row.changes(base.model)))
        assert len(row.published) == len(table.columns) or not row.published[0]
    assert len(configs) == len(table.rows), "names are different"
    for claim in table.claims:
        assert {claim.above, claim.below} <= configs.keys()
    for row in table.rows:
        assert row.training in configs


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in TABLES if name != "sudoku-ablation"],
)
def test_a_table_runs(name: str, tmp_path: Path) -> None:
    assert run("table", name, "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Its figures mean nothing" in text
    assert "failed" not in text
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert [row["row"] for row in rows] == [row.name for row in TABLES[name].rows]
    assert all(len(row["values"]) == 1 and 0 <= row["mean"] <= 1 for row in rows)
    for drawing in (tmp_path / "out").glob("*.svg"):
        ElementTree.fromstring(drawing.read_text())
        assert drawing.name in text


def test_a_page_has_the_published_figures_beside_ours(ablation: Path) -> None:
    text = (ablation / "table.md").read_text()
    lines: dict[str, str] = {}
    for line in text.splitlines():
        lines.setdefault(line.split(" | ")[0].removeprefix("| "), line)
    assert lines["HRM"].endswith("| 55.0 | 24 | 2 | 27M |")
    assert " | 2 | 24 | 6 | " in lines["HRM"], "two forward passes, depth 24, six training steps"
    assert lines["TRM (T=3, n=6)"].endswith("| 87.4 | 42 | 1 | 5M |")
    assert text.count("**not told apart**") == len(TABLES["sudoku-ablation"].claims)
    for said in ("sudoku-4x4/30+12", "backtracks, mean", "torch ", "commit ", "seeds: 2", "smoke scale"):
        assert said in text
    assert "- one-step gradient: " in text
    assert 'model.recursion.gradient="update"' in text


def test_what_is_done_is_not_made_again(ablation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = {file: file.stat().st_mtime_ns for file in ablation.rglob("result.json")}
    assert len(results) == 20
    assert run("table", "sudoku-ablation", "--seeds", "2", "--out", ablation) == 0
    assert "0 trainings to do, 20 done" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in results} == results
    (ablation / "hrm" / "seed-1" / "result.json").unlink()
    assert run("table", "sudoku-ablation", "--seeds", "2", "--row", "HRM", "--out", ablation) == 0
    assert "1 trainings to do, 1 done" in capsys.readouterr().out


def test_any_number_of_jobs_gives_the_same(ablation: Path, tmp_path: Path) -> None:
    assert run("table", "sudoku-ablation", "--row", "HRM", "--row", "T=2, n=2", "--out", tmp_path / "one") == 0
    for name in ("hrm", "t-2-n-2"):
        ours, theirs = (
            json.loads((out / name / "seed-0" / "result.json").read_text()) for out in (tmp_path / "one", ablation)
        )
        assert ours["answers"] == theirs["answers"]
        assert ours["metrics"]["loss"] == theirs["metrics"]["loss"]


def test_jobs_and_seeds_are_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(machine, "cpu_count", lambda: 2)
    monkeypatch.setattr("pipeline.experiments.run_table.run_all_trials", lambda _, jobs: started.append(jobs) or [])
    words = ("table", "sudoku-ablation", "--row", "HRM", "--out", tmp_path / "out")
    assert run(*words, "--jobs", str(10**12)) == 0
    assert started == [8]
    assert "--jobs is 1000000000000, and this machine has 2 cores: 8 are started" in capsys.readouterr().out
    assert "--seeds" in refuse(capsys, *words, "--seeds", str(10**12))


def test_other_settings_are_not_taken_for_the_same(
    ablation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ablation / "no-average" / "seed-0" / "result.json"
    kept = file.read_text()
    file.write_text(kept.replace('"lr": 0.001', '"lr": 0.002'))
    assert run("table", "sudoku-ablation", "--out", ablation) == 2
    assert "was made with other settings; name another folder with --out" in " ".join(capsys.readouterr().err.split())
    file.write_text(kept)


def test_a_page_keeps_the_rows_and_seeds_of_commands_before(tmp_path: Path) -> None:
    words = ("table", "latents", "--out", tmp_path / "out", "--set", "train.steps=2", "--set", "train.lr=0.01")
    assert run(*words, "--row", "one", "--seeds", "2") == 0
    assert run(*words, "--row", "two: answer and reasoning") == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "# More or fewer latents: `latents` at smoke scale with train.steps=2, train.lr=0.01" in text
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert [(row["row"], len(row["values"])) for row in rows] == [("two: answer and reasoning", 1), ("one", 2)]
    assert (
        "`python -m pipeline table latents --scale smoke --seeds 2 --row 'two: answer and reasoning' --row one "
        "--set train.steps=2 --set train.lr=0.01` reproduces this page."
    ) in text
    assert "train.steps=2, train.lr=0.01" in (tmp_path / "out" / "latents.svg").read_text()


@pytest.mark.parametrize(("name", "whose"), [("seed", "--seeds"), ("model.mixer", "row 'HRM'")])
def test_what_rows_decide_is_not_set_for_all(
    name: str, whose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("table", "sudoku-ablation", "--out", tmp_path / "out", "--set", f"{name}=1") == 2
    assert whose in capsys.readouterr().err


@pytest.mark.parametrize("how", ["interrupted", pytest.param("killed", marks=pytest.mark.slow)])
def test_a_table_that_is_stopped_leaves_no_worker_behind(how: str, tmp_path: Path) -> None:
    """Its workers save a checkpoint and exit; the same command then resumes."""
    words = ["table", "latents", "--jobs", "2", "--out", str(tmp_path / "out"), "--set", "train.steps=1000000"]
    table = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words], start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("out/*/seed-0/metrics.jsonl"))) == 2)
        workers = psutil.Process(table.pid).children(recursive=True)
        if how == "interrupted":
            os.killpg(table.pid, signal.SIGINT)
        else:
            table.kill()
        assert table.wait(timeout=60) != 0
        assert psutil.wait_procs(workers, timeout=60)[1] == [], "no worker is left running"
        assert len(list(tmp_path.glob("out/*/seed-0"))) == 2, "no worker started the third row"
        assert len(list(tmp_path.glob("out/*/seed-0/checkpoints/step_*"))) >= 2
    finally:
        with suppress(ProcessLookupError):
            os.killpg(table.pid, signal.SIGKILL)


def test_a_row_run_alone_is_asked_the_rest_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, asked = tmp_path / "out", ["--row", "blank IDs"]
    file = out / "right-ids" / "seed-0" / "result.json"
    assert run("table", "drivers", *asked, "--out", out) == 0
    first = json.loads(file.read_text())
    assert run("table", "drivers", *asked, "--row", "right IDs", "--out", out) == 0
    assert "1 trainings to do, 0 done" in capsys.readouterr().out
    second = json.loads(file.read_text())
    assert second["answers"].keys() == {"blank IDs", "votes"}
    assert second["answers"]["blank IDs"] == first["answers"]["blank IDs"]
    assert second["curve"] == first["curve"], "trained once"
    assert run("table", "drivers", *asked, "--out", out) == 0
    assert "0 trainings to do, 1 done" in capsys.readouterr().out


def test_a_row_that_fails_says_so_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(trial: Trial) -> dict[str, Any]:
        if trial.name == "one":
            raise ValueError("no luck\ntoday")
        return run_trial(trial)

    monkeypatch.setattr("pipeline.experiments.worker_pool.run_trial", fail)
    assert run("table", "latents", "--out", tmp_path / "out") == 1
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| one | failed: no luck today |" in text
    assert "**not run**" in text
    assert text.count("**0.0**") + text.count("**8.3**") >= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such"], "there are sudoku-ablation, latents"),
        (["latents", "--row", "three"], "no such row; there are two: answer and reasoning"),
        (["latents", "--scale", "paper"], "needs the published files of sudoku-extreme; put its train.csv"),
    ],
)
def test_what_cannot_be_run_is_said(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("table", *words, "--out", tmp_path / "out") == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_tables_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("table", "--list") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in TABLES)
    assert "one-step gradient" in said


def test_rows_that_differ_in_how_they_are_asked_share_a_training(tmp_path: Path) -> None:
    table = TABLES["drivers"]
    trials = list(make_trials(table, table.rows, [0], order("drivers", tmp_path)))
    asked = {trial.name: trial.ask for trial in trials}
    assert asked["300 augmentations"] == ("votes", "one view")
    assert asked["right IDs"] == ("votes", "blank IDs", "shuffled IDs")
    assert len(trials) == 10 < len(table.rows)
    (only,) = make_trials(table, choose_rows(table, ["blank IDs"]), [0], order("drivers", tmp_path))
    assert (only.name, only.ask) == ("right IDs", ("blank IDs",))


def result(rights: list[str], value: float | None = None, steps: int = 1) -> dict[str, Any]:
    value = rights[-1].count("1") / len(rights[-1]) if value is None else value
    config = {"model": {"max_steps": steps}}
    return {"answers": {"exact": {"value": value, "right": rights, "steps": [0.0] * len(rights)}}, "config": config}


def lines_of(ours: list[str], theirs: list[str]) -> Any:
    names = {"a": ours, "b": theirs}
    results = {(name, seed): result([right]) for name, rights in names.items() for seed, right in enumerate(rights)}
    return {name: make_line(Row(name), results) for name in names}


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (["1" * 9 + "0"] * 3, ["0" * 10] * 3, "reproduced"),
        (["0" * 10] * 3, ["1" * 9 + "0"] * 3, "reversed"),
        (["1" * 9 + "0", "1" * 9 + "0", "0" * 10], ["0" * 10] * 3, "not told apart"),
        (["1" + "0" * 9] * 3, ["0" * 10] * 3, "not told apart"),
        (["1" * 10], ["0" * 10], "not told apart"),
        ([], ["0" * 10] * 3, "not run"),
    ],
    ids=["above in all", "below in all", "not in all", "by too few test inputs", "one seed", "missing"],
)
def test_orderings_are_judged_by_rule(ours: list[str], theirs: list[str], verdict: str) -> None:
    judged = judge(Claim("a", "b"), lines_of(ours, theirs))
    assert judged.verdict == verdict
    if verdict == "reproduced":
        assert (judged.seeds, judged.gained, judged.lost) == ("3 of 3", 27, 0)
        assert judged.difference == pytest.approx(0.9)


def test_every_curve_of_many_is_named_within_the_picture() -> None:
    """Most curves end near 0, where their names would overlap and leave the picture."""
    curves = [
        Series(f"row {number} of a long name, and longer yet", [(1, 0.0), (9, number / 100)]) for number in range(30)
    ]
    picture = ElementTree.fromstring(draw_series("title", "step", curves, log=False))
    width, height = (float(picture.get(side, "0")) for side in ("width", "height"))
    names = [text for text in picture.iter() if (text.text or "").startswith("row ")]
    places = sorted(float(text.get("y", "0")) for text in names)
    assert len(places) == 30
    assert 20 < places[0] < places[-1] < height
    assert min(later - earlier for earlier, later in itertools.pairwise(places)) >= 13, "a line each"
    assert all(float(text.get("x", "0")) + 6 * len(text.text or "") < width for text in names)


def test_seeds_are_compared_with_the_same_seeds() -> None:
    """If a seed of one row failed, that seed of the other row is left out of the comparison."""
    rights = {("a", 0): "1100", ("a", 1): "0011", ("b", 1): "0010"}
    results: Results = {key: result([right]) for key, right in rights.items()} | {("b", 0): {"failed": "no luck"}}
    judged = judge(Claim("a", "b"), {name: make_line(Row(name), results) for name in ("a", "b")})
    assert (judged.seeds, judged.gained, judged.lost) == ("1 of 1", 1, 0)


def test_test_inputs_are_compared_after_the_steps_of_training() -> None:
    """With 2 supervision steps in prediction and 1 in training, the result of the second step does not count."""
    results = {("a", 0): result(["10", "11"], 0.5), ("b", 0): result(["00", "11"], 0.0)}
    judged = judge(Claim("a", "b"), {name: make_line(Row(name), results) for name in ("a", "b")})
    assert (judged.gained, judged.lost) == (1, 0)


@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_rows_of_equal_operations_differ_in_steps_only(scale: Any, tmp_path: Path) -> None:
    table = TABLES["efficiency"]
    trials = list(make_trials(table, table.rows, [0], order("efficiency", tmp_path, scale=scale)))
    base = trials[0].config
    assert base == override(base_config("arc6", scale), {"seed": 0})
    for config in (trial.config for trial in trials):
        assert training_flop(config) == pytest.approx(
            training_flop(base), abs=training_flop(config) / config.train.steps
        )
        assert (config.train.average or 0) ** config.train.steps == pytest.approx(
            (base.train.average or 0) ** base.train.steps
        )
    steps = {trial.name: trial.config.train.steps for trial in trials}
    assert steps["a row per transform"] == base.train.steps > steps["symbols, as SE-RRM"]
    assert steps["symbols, as SE-RRM"] > steps["symbols, equal weights"]


def test_the_steps_that_are_set_are_those_of_the_base(tmp_path: Path) -> None:
    table = TABLES["efficiency"]
    few, many = (
        [trial.config for trial in make_trials(table, table.rows, [0], order("efficiency", tmp_path, settings=(each,)))]
        for each in ("train.steps=60", "train.steps=120")
    )
    assert (few[0].train.steps, many[0].train.steps) == (60, 120)
    assert [config.train.steps for config in many] == pytest.approx([2 * config.train.steps for config in few], abs=1)
    assert many[-1].train.warmup == round(many[0].train.warmup * many[-1].train.steps / 120)


def test_equal_weights_are_about_as_many() -> None:
    table = TABLES["efficiency"]
    base = base_config("arc6", "cpu").model
    wide = override(base_config("arc6", "cpu"), dict(table.row("symbols, equal weights").changes(base))).model
    assert 0.95 < count_parameters(wide) / count_parameters(base) <= 1


def test_se_rrm_is_of_the_published_size_where_the_base_is() -> None:
    row = TABLES["efficiency"].row("symbols, as SE-RRM")
    made = override(base_config("arc6", "paper"), dict(row.changes(base_config("arc6", "paper").model))).model
    assert count_parameters(made) == count_parameters(MEMBERS["serrm"].config)
    assert (made.hidden, made.heads, made.symbol_heads) == (256, 4, 2)


def test_efficiency_is_judged_on_tasks_of_no_recipe() -> None:
    chosen = base_config("arc6", "cpu")
    tasks = load_tasks(chosen.source, chosen.selection.selection())
    assert len(tasks) == 21
    assert {task.max_side for task in tasks} == {6}
    assert not {task.id for task in tasks} & {task.id for task in load_tasks(cpu().source, cpu().selection.selection())}
    assert max(max(pair.output.shape) for task in tasks for pair in task.tests if pair.output is not None) < 7


def test_a_run_table_reports_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Notes:
        def log(self, line: str) -> None:
            said.append(line)

    assert run_table(order("latents", tmp_path / "out", rows=("one",)), Notes())  # type: ignore[arg-type]
    assert any("1 of 1: one, seed 0: exact" in line and "left" in line for line in said)
