"""The search for settings: the arithmetic of its budgets, what a run writes down, what the leaderboard makes of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import benchmarks.search.__main__ as search
from benchmarks.search.board import leaderboard
from benchmarks.search.records import NEEDED, append, read
from benchmarks.search.settings import SETTINGS, Setting, find_setting
from benchmarks.search.tasks import SETS, find_tasks
from benchmarks.search.trial import Allowance, Trial, build_tasks, plan, run_trial
from pipeline.config.run_config import ConfigError, RunConfig, override
from pipeline.recipes.small import cpu_trm, smoke, smoke_direct, smoke_hrm
from pipeline.training import flop
from solver.data.batches import PuzzleDataset
from solver.model.model import RecursiveModel
from tests.helpers.paths import ROOT
from tests.helpers.process_family import process_family, seconds_used, wait_until

WORKING = 2.0
"""Seconds of a processor after which a process is past its start."""
TINY = Setting("smoke", {"train.steps": 4, "train.log_every": 2})


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "run_trials", lambda trials, _: map(run_trial, trials))


def result(name: str = "shipped", seed: int = 0, solved: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    """A record of four test outputs, of which those numbered are solved."""
    flags = {f"task/{number}": number in solved for number in range(4)}
    about = {"name": name, "recipe": "cpu_trm", "changes": {}, "tasks": "six", "seed": seed}
    figures = {"macro": len(solved) / 4, "solved": len(solved), "covered": 4, "right": 0.5, "seconds": 60.0 + seed}
    return about | {"budget": {"unit": "flop", "amount": 1e14}, "solved_outputs": flags} | figures | more


def test_sets_of_tasks_have_their_sizes_and_none_of_the_recipes_own() -> None:
    sets = {name: find_tasks(name, confirmed=True) for name in SETS}
    assert {name: len(tasks) for name, tasks in sets.items()} == {"six": 27, "eight": 24, "recipe": 25}
    assert len({task.id for tasks in sets.values() for task in tasks}) == 76
    assert sum(len(task.tests) for task in sets["six"]) == 29
    for tasks in sets.values():
        assert [task.id for task in tasks] == sorted(task.id for task in tasks)


@pytest.mark.parametrize("make", [cpu_trm, smoke_hrm, smoke_direct])
def test_arithmetic_agrees_with_the_operations_torch_counts(make: Any) -> None:
    config = override(make(), {"puzzles.augmentations": 1, "train.batch_size": 4})
    examples = PuzzleDataset(build_tasks(config, find_tasks("six", limit=2)), config.model.canvas)
    batch, model = examples.training_batch(examples.sampler(0), 4, shift=False), RecursiveModel(config.model)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(model.initial_latents(batch), batch, torch.zeros(4, config.model.id_length))
        forward = counter.get_total_flops()
        output.logits_BCV.sum().backward()
    whole = counter.get_total_flops() + (config.model.forward_passes - 1) * forward
    positions_B = config.model.id_slots + (batch.cells_BS >= 0).sum(1).numpy()
    assert flop.step_work(config.model, positions_B) == pytest.approx((forward, whole), rel=0.01)


def test_operations_of_a_set_are_those_of_its_canvases_by_pairs() -> None:
    config = override(smoke(), {"puzzles.augmentations": 1})
    puzzle_set = build_tasks(config, find_tasks("six", limit=2))
    positions = config.model.id_slots + puzzle_set.canvases.astype(int).prod(axis=1)
    each = [flop.step_work(config.model, positions[[task]])[1] for task in (0, 1)]
    first, second = (len(puzzle_set.training_pairs(task)) for task in (0, 1))
    mean = (first * each[0] + second * each[1]) / (first + second)
    assert flop.step_flop(config, puzzle_set) == pytest.approx(config.train.batch_size * mean)
    fewer = override(config, {"train.curriculum": [[0.5, 1, 1]]})
    shallow = override(config, {"model.l_cycles": 1})
    halves = flop.step_flop(shallow, puzzle_set) + flop.step_flop(config, puzzle_set)
    assert flop.step_flop(fewer, puzzle_set) == pytest.approx(halves / 2)


def planned(allowance: Allowance | None) -> tuple[RunConfig, float]:
    config = override(smoke(), {"puzzles.augmentations": 1})
    puzzle_set = build_tasks(config, find_tasks("six", limit=2))
    return plan(config, puzzle_set, allowance), flop.step_flop(config, puzzle_set)


def test_each_budget_plans_its_steps() -> None:
    config, step = planned(None)
    assert config.train.steps == smoke().train.steps
    assert planned(Allowance("flop", 7.5 * step))[0].train.steps == 7
    assert planned(Allowance("steps", 9))[0].train.steps == 9
    assert planned(Allowance("seconds", 60))[0].train.fit
    with pytest.raises(ValueError, match=r"one step takes .* give more"):
        planned(Allowance("flop", 0.5 * step))
    with pytest.raises(ConfigError, match="more than 0"):
        Allowance("seconds", 0)


def test_seconds_end_training_and_fit_the_schedule_to_them() -> None:
    record = run_trial(Trial("x", TINY, "six[:2]", tuple(find_tasks("six", limit=2)), 0, Allowance("seconds", 1.0)))
    assert 1 < record["steps"] < 1000
    assert record["seconds"] < 20
    assert record["budget"] == {"unit": "seconds", "amount": 1.0}


@pytest.mark.usefixtures("in_this_process")
def test_a_run_writes_one_valid_line_that_the_board_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "search.jsonl"
    words = ["run", "tiny", "--recipe", "smoke", "--set", "train.lr=2e-3", "--limit", "2", "--steps", "4"]
    with pytest.raises(SystemExit) as ended:
        search.main([*words, "--seeds", "3", "--file", str(file)])
    assert ended.value.code == 0
    (line,) = file.read_text().splitlines()
    record = json.loads(line)
    assert set(NEEDED) <= record.keys()
    expected = {"name": "tiny", "recipe": "smoke", "changes": {"train.lr": 2e-3}, "tasks": "six[:2]", "seed": 3}
    expected |= {"steps": 4, "examples": 64, "threads": 1, "outputs": 2}
    assert {name: record[name] for name in expected} == expected
    assert len(record["solved_outputs"]) == 2
    assert sum(record["solved_outputs"].values()) == record["solved"] <= record["covered"]
    assert record["flop"] > 0 < record["weights"]
    with pytest.raises(SystemExit):
        search.main(["board", "--file", str(file)])
    shown = capsys.readouterr().out
    assert "tiny on six[:2], 4 steps: seed 3, 4 steps (64 examples" in shown
    assert "Tasks `six[:2]` (2 test outputs), 4 steps; median" in shown
    assert "\n| tiny | 1 |" in shown


def test_a_search_as_a_command_writes_its_record(tmp_path: Path) -> None:
    words = ["tiny", "--recipe", "smoke", "--limit", "1", "--seeds", "3", "--steps", "2", "--file", tmp_path / "file"]
    subprocess.run([sys.executable, "-m", "benchmarks.search", "run", *map(str, words)], cwd=ROOT, check=True)
    assert [record["seed"] for record in read(tmp_path / "file")] == [3]


@pytest.mark.slow
def test_a_search_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    words = ["run", "learner", "--limit", "2", "--seeds", "0", "--steps", "100000", "--file", str(tmp_path / "file")]
    with process_family([sys.executable, "-m", "benchmarks.search", *words]) as (search_run, started):
        wait_until(lambda: search_run.poll() is not None or any(seconds_used(one) > WORKING for one in started()))
        assert search_run.poll() is None
        search_run.kill()


@pytest.mark.slow
def test_a_seed_that_fails_in_its_process_does_not_cost_the_others() -> None:
    tasks, step = tuple(find_tasks("six", limit=1)), Allowance("steps", 1)
    good, bad = Trial("x", TINY, "six[:1]", tasks, 0, step), Trial("x", TINY, "six[:1]", tasks, 1, Allowance("flop", 1))
    made = search.run_trials([bad, good], 2)
    assert next(made)["seed"] == 0
    with pytest.raises(ValueError, match=r"seed 1: .*one step takes"):
        next(made)


def test_the_board_has_medians_and_a_paired_test_over_shared_seeds() -> None:
    records = [result(seed=0), result(seed=1, solved=(0,)), result(seed=2, solved=(0, 1)), result("other", 5, (0,))]
    records += [result("wide", 0, (0, 1, 2)), result("wide", 1, (1, 2, 3)), result("wide", 7, ())]
    records += [result("wide", 0, (0, 1)), result("long", 0, budget={"unit": "seconds", "amount": 300})]
    text = leaderboard(records, "six", against="shipped")
    flops, seconds = text.split("\n\nTasks")
    assert "Tasks `six` (4 test outputs), 1e+14 FLOP" in flops
    assert "300 s of training" in seconds
    names = [line.split(" | ")[0] for line in flops.splitlines() if line.startswith("| ")]
    assert names == ["| setting", "| ---", "| wide", "| shipped", "| other"], "the best median first"
    assert "| shipped | 3 | 25.0% (0.0% to 50.0%) | 1 (0 to 2) | 4 | 0.500 |" in flops
    assert "| wide | 3 | 50.0% (0.0% to 75.0%) | 2 (0 to 3) |" in flops, "of a seed run twice the later counts"
    assert "| +5 -1, p = 0.219 (2 seeds) |" in flops
    assert "no seed in common" in flops


@pytest.mark.parametrize(("tasks", "against"), [("eight", None), (None, "gone")])
def test_a_board_of_what_is_not_there_is_refused(tasks: str | None, against: str | None) -> None:
    with pytest.raises(ValueError, match=r"there are no results on tasks 'eight'|no such setting in the file"):
        leaderboard([result()], tasks, against)


def test_a_damaged_file_of_results_is_named(tmp_path: Path) -> None:
    file = tmp_path / "search.jsonl"
    append(file, result())
    assert read(file) == [result()]
    for line, reason in (("{", "not valid JSON"), ("{}", "name, recipe")):
        file.write_text(f"{json.dumps(result())}\n{line}\n")
        with pytest.raises(ValueError, match=f"search.jsonl, line 2: .*{reason}"):
            read(file)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_table_can_be(name: str) -> None:
    assert find_setting(name, None, {}).config()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run shiped", "shiped: no such setting; there is shipped"),
        ("run shipped --set train.lr=1", "shipped: is a setting of the table already"),
        ("run x --recipe y", "--recipe y: no such recipe"),
        ("run x --set train.lrs=1", "train.lrs: no such setting"),
        ("run shipped --tasks seven", "--tasks seven: no such set of tasks"),
        ("run shipped --tasks recipe", "say --confirm"),
        ("run shipped --seeds 0,0", "--seeds 0,0: write different whole numbers"),
        ("run shipped --steps 5 --seconds 5", "give one of --seconds, --steps"),
        ("run used --recipe cpu_trm", "used: the file has it as {'recipe': 'smoke'"),
        ("board --tasks eight", "there are no results on tasks 'eight'"),
        ("board --against x", "--against x: no such setting in the file; there are used"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "search.jsonl"
    append(file, result("used", recipe="smoke"))
    with pytest.raises(SystemExit) as ended:
        search.main([*words.split(), "--file", str(file)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert len(file.read_text().splitlines()) == 1
