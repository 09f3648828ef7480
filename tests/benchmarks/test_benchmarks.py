"""The benchmarks' pieces at toy size: what they compare and count, and that their text says what was measured."""

import json
import subprocess
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from augment import IDENTITY, Selection, SourcedTasks, build_puzzle_set, load_tasks
from benchmarks import bench_canvas, bench_symbols, bench_train, bench_vote, run_budget, train_trial
from benchmarks.bench_faults import Faults
from benchmarks.bench_faults import describe as describe_faults
from benchmarks.bench_kills import CHECKPOINT_EVERY, Outcome, compare, draw_moments
from benchmarks.bench_kills import describe as describe_kills
from pipeline.config.run_config import override
from pipeline.prediction.time_estimate import TimeEstimate
from pipeline.recipes.small import cpu_trm, smoke
from solver.model.config import ModelConfig
from submissions.prediction_files import write_predictions
from submissions.predictions import Prediction, make_predictions
from tests.fuzz.worker import Counts, Failure
from tests.helpers.kill_points import Point
from tests.helpers.kill_runs import Kill


def test_counted_operations_are_those_published() -> None:
    forward, step = bench_train.step_work(ModelConfig(), np.array([916]))
    assert (round(forward / 1e9, 1), round(step / 1e9, 1)) == (238.9, 398.1)


def test_operations_of_examples_add_up() -> None:
    both = bench_train.step_work(ModelConfig(), np.array([52, 916]))
    each = [bench_train.step_work(ModelConfig(), np.array([length])) for length in (52, 916)]
    assert both == pytest.approx(np.sum(each, axis=0))


def test_chosen_slots_stand_for_the_whole_batch() -> None:
    lengths_B = np.random.default_rng(0).permutation(100)
    chosen = train_trial.choose_slots(lengths_B, 4)
    assert sorted(lengths_B[chosen]) == [12, 37, 62, 87]
    assert train_trial.choose_slots(lengths_B, 100).tolist() == list(range(100))


@pytest.fixture(scope="module")
def trials() -> list[train_trial.Trial]:
    """Both canvases, timed once on two slots of a batch of eight."""
    config = override(smoke(), {"train.batch_size": 8, "model.board_side": 10})
    work = train_trial.prepare_work(config, 2)
    device = torch.device("cpu")
    made = [train_trial.Trial(work, canvas, False, device) for canvas in ("full", "task")]
    bench_train.time_in_turn(made, lambda: 1e9, rounds=1)
    return made


def test_both_canvases_train_the_same_slots(trials: list[train_trial.Trial]) -> None:
    full, task = trials
    puzzles = [trial.work.batch(trial.examples).puzzles_B.tolist() for trial in trials]
    assert puzzles[0] == puzzles[1]
    assert len(puzzles[0]) == 2
    assert full.positions_B.tolist() == [101, 101]
    assert task.positions_B.max() < 50
    assert [trial.learner and trial.learner.steps for trial in trials] == [2, 2], "one to warm up, one that counts"


def test_parts_make_up_the_step(trials: list[train_trial.Trial]) -> None:
    for trial in trials:
        parts = [trial.median(part) for part in train_trial.PARTS]
        assert sum(parts) == pytest.approx(trial.median("step"))
        assert min(parts) > 0, "every part is wrapped"


def test_training_text_has_what_was_measured_and_no_more(trials: list[train_trial.Trial]) -> None:
    text = bench_train.describe(trials, 1e9, "command")
    assert text.count("| full, eager |") == text.count("| task, eager |") == 2
    assert "ompiled" not in text
    assert "No GPU was found" in text
    assert "2 slots stand for a batch of 8" in text
    works = [bench_train.step_work(trial.work.config.model, trial.positions_B)[1] for trial in trials]
    assert f"by arithmetic it could be {works[0] / works[1]:.2f} times" in text


def test_one_learner_at_a_time_is_in_memory(trials: list[train_trial.Trial]) -> None:
    """Ended before the next one is made, and still described: its text does not need the learner."""
    work = trials[0].work
    alive = []

    def make() -> Iterator[list[train_trial.Trial]]:
        for canvas, _ in bench_train.choose_kinds("eager", compiled=True):
            trial = train_trial.Trial(work, canvas, False, torch.device("cpu"))
            assert trial.learner is not None
            alive.append(weakref.ref(trial.learner))
            assert sum(learner() is not None for learner in alive) == 1
            yield [trial]

    made, rate, texts = bench_train.time_groups(make(), lambda: 1e9, 1, lambda trial: f"{trial.canvas} ")
    assert (len(made), rate, texts) == (2, 1e9, "full task ")
    text = bench_train.describe(made, rate, "command")
    assert text.count("| full, eager |") == text.count("| task, eager |") == 2
    assert "by arithmetic it could be" not in bench_train.describe(made[:1], rate, "command"), "one canvas, no ratio"


def test_canvases_and_ways_to_time_are_chosen_by_name() -> None:
    choose = bench_train.choose_kinds
    assert choose(None, compiled=False) == [("full", False), ("task", False)]
    assert choose(None, compiled=True) == [("full", False), ("task", False), ("full", True), ("task", True)]
    assert choose("task", compiled=True) == [("task", False), ("task", True)]
    assert choose("compiled,task", compiled=False) == [("task", True)]
    with pytest.raises(typer.BadParameter, match="'fast' is none of full, task, eager, compiled"):
        choose("task,fast", compiled=True)


def test_the_plain_network_beside_the_symbols_is_about_as_large() -> None:
    _, small, symbols, _, every = bench_symbols.make_configs().values()
    weights, wanted = (bench_symbols.count_weights(config.model) for config in (small, symbols))
    assert weights == pytest.approx(wanted, rel=0.1)
    assert not small.model.symbols
    assert (symbols.model.palette, every.model.palette) == ("task", "all")
    assert bench_symbols.count_weights(every.model) == wanted


def test_every_network_is_timed_in_every_round() -> None:
    changes = {"train.batch_size": 2, "puzzles.augmentations": 1, "model.hidden": 16}
    chosen = list(bench_symbols.make_configs().items())[1:4]
    configs = {name: override(config, changes) for name, config in chosen}
    before = torch.get_num_threads()
    contenders = bench_symbols.compare(configs, bench_symbols.six()[:2], [1], 2)
    assert torch.get_num_threads() == before
    for contender in contenders:
        assert {key: len(times) for key, times in contender.seconds.items()} == {
            ("training", 1): 2,
            ("prediction", 1): 2,
        }
        model = contender.config.model
        lengths = np.concatenate([train_trial.cells_in_use(batch) for batch in contender.batches])
        if not model.symbols:
            step = bench_train.step_work(model, model.id_slots + lengths)[1] / len(lengths)
            assert contender.flop()["training"] == pytest.approx(step)
    text = bench_symbols.describe(contenders, 2, [1], "command", "Nothing else ran.")
    assert all(text.count(f"| {name} |") == 2 for name in configs)
    assert "2 tasks, batches of 2 examples" in text
    assert "Nothing else ran." in text


def test_moments_of_killing_are_drawn_by_the_seed() -> None:
    moments = draw_moments(20, 400, seed=0, starting=5.0)
    assert moments == draw_moments(20, 400, seed=0, starting=5.0) != draw_moments(20, 400, seed=1, starting=5.0)
    steps = [moment.step for moment in moments]
    assert steps == sorted(steps)
    assert steps[0] < CHECKPOINT_EVERY
    assert steps[-1] < 400
    assert sum(moment.kind == "write" for moment in moments) == 8


def write_step(folder: Path, seconds: float, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    about = {"step": 10, "training": {"seconds": seconds, "sampler": {"step": 10}}, "sha256": str(seconds)}
    (folder / "checkpoint.json").write_text(json.dumps(about))
    return folder


def test_checkpoints_are_compared_without_their_times(tmp_path: Path) -> None:
    first, second = write_step(tmp_path / "a", 1.0), write_step(tmp_path / "b", 2.0)
    assert compare(first, second) == []
    other = write_step(tmp_path / "c", 1.0, b"weighty")
    assert compare(other, first) == ["c/model.safetensors"]
    (other / "model.safetensors").unlink()
    assert compare(other, first) == ["c/model.safetensors"]
    about = (second / "checkpoint.json").read_text()
    (second / "checkpoint.json").write_text(about.replace('"sampler": {"step": 10}', '"sampler": {"step": 11}'))
    assert compare(second, first) == ["b/checkpoint.json"]
    assert compare(tmp_path / "gone", tmp_path / "gone") == ["gone/"], "nothing is not identical with nothing"


def test_the_text_on_kills_counts_them() -> None:
    kill = Outcome("write", 10, 24, 20, True, ())
    bad = replace(kill, inside=False, differs=("step_0000020/model.safetensors",))
    end = Outcome("end", 20, 400, 400, False, ())
    text = describe_kills([kill, bad, end], "command")
    assert "**1 of 2 identical**" in text
    assert "1 fell inside the write" in text
    assert "metrics were identical" in text
    assert "| step_0000020/model.safetensors |" in text
    assert "metrics were DIFFERENT" in describe_kills([kill, replace(end, differs=("metrics.jsonl",))], "command")


def test_a_canvas_is_run_and_its_figures_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_tasks("arc-agi-1/training", cpu_trm().selection.selection())[0]
    right = task.tests[0].output
    rows = [Prediction(task.id, 0, name, grid, 0.0) for name, grid in ((IDENTITY.name, right), (IDENTITY.name, None))]
    commands = []

    def solve(command: list[str], **_: object) -> subprocess.CompletedProcess:
        commands.append(command)
        folder = Path(command[command.index("--run-dir") + 1])
        write_predictions(folder / "predictions", make_predictions({}, rows))
        (folder / "metrics.jsonl").write_text('{"step": 9, "exact": 0.25}\n')
        score = {"outputs": 31, "pass@2": {"macro": 0.3, "micro": 10 / 31}, "coverage": {"micro": 12 / 31}}
        (folder / "score.json").write_text(json.dumps(score))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", solve)
    results = [bench_canvas.run_canvas(canvas, 1, tmp_path, ["train.steps=9"]) for canvas in ("full", "task")]
    settings = [word for word in commands[1] if word.startswith("--set=")]
    assert settings[:2] == ["--set=seed=1", "--set=model.canvas=task"]
    assert settings[-1] == "--set=train.steps=9"
    assert (results[0]["exact"], results[0]["single"], results[0]["solved"]) == (0.25, 0.5, pytest.approx(10))
    made = {"cores": 2, "commit": "c", "torch": "2", "python": "3"}
    text = bench_canvas.describe(results, 31, made, "command")
    assert "| task | 1 | 25.0% | 50.0% | 30.0% | 32.3% | 10 | 12 |" in text
    assert "| full | median | 25.0% |" in text


def test_both_ways_of_voting_are_timed_on_the_same_answers() -> None:
    clock, answers, plain, memory = bench_vote.run(load_tasks(bench_vote.SOURCE)[:3], 300, 0.5)
    assert answers == sum(len(task.tests) for task in load_tasks(bench_vote.SOURCE)[:3]) * 301
    assert plain == bench_vote.SIZE, "half of the batches, rounded"
    assert set(clock.seconds) == {*bench_vote.IN_MEMORY, *bench_vote.THROUGH_FILES, "plain way"}
    text = bench_vote.describe(clock, answers, plain, memory, "command")
    assert f"{answers:,} answers" in text
    assert f"{clock.seconds['plain way'] * answers / plain:.1f} |" in text


def test_a_budget_is_shared_out_by_what_a_trial_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_budget, "time_training", lambda *_: 0.5)
    monkeypatch.setattr(run_budget, "estimate_prediction", lambda *_: TimeEstimate(start=20.0, work=160.0))
    monkeypatch.setattr(run_budget.Budget, "left", lambda _: 120.0 / (1 - run_budget.SPARE_SHARE))
    config, unused = override(cpu_trm(), {"puzzles.augmentations": 15}), np.zeros(0)
    # 16 views would take 160 s, 10 each; a quarter of the 100 s that starting leaves is enough for 2; the other 80 s
    # train 160 steps.
    assert run_budget.make_plan(config, unused, 40, run_budget.Budget(1)) == run_budget.PassSchedule(160, 2, 0.5, 10.0)  # type: ignore[arg-type]
    monkeypatch.setattr(run_budget, "estimate_prediction", lambda *_: TimeEstimate(start=20.0, work=16.0))
    assert run_budget.make_plan(config, unused, 40, run_budget.Budget(1)) == run_budget.PassSchedule(168, 16, 0.5, 1.0)  # type: ignore[arg-type]


def test_a_budget_is_spent_by_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_budget, "make_plan", lambda *_: run_budget.PassSchedule(10, 3, 0.5, 1.0))
    config = override(smoke(), {"source": run_budget.SOURCE, "selection.max_side": 5, "selection.limit": 2})
    plan, score, seconds = run_budget.spend(config, tmp_path / "run", 20, trial_steps=20)
    made = json.loads((tmp_path / "run" / "predictions" / "predictions.json").read_text())["metadata"]
    assert (made["augmentations"], score.tasks, score.outputs) == (2, 2, 2)
    text = run_budget.describe(plan, score, seconds, tmp_path / "run", 20, "command")
    assert text.count("\n| ") == 4, "the learning curve: two lines under its head"
    assert run_budget.curve(tmp_path) == ["No step was trained."]


def test_a_trial_of_training_is_timed() -> None:
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=2))
    puzzle_set = build_puzzle_set([SourcedTasks("a", "scored", tasks)], 3, seed=0)
    assert 0 < run_budget.time_training(smoke(), puzzle_set, 4) < 60


def test_the_text_on_faults_counts_and_names_what_failed() -> None:
    failure = Failure(7, "KeyError at augment/task.py:1", "'input'")
    kills = [Kill(Point(1), "open a", ()), Kill(Point(2, after=True), "open b", ("left over: b",))]
    text = describe_faults(Faults({"sources": Counts(5, 3, [failure])}, {"vote": kills}), "command")
    assert "**8 of 9 mutated inputs**" in text
    assert "| sources | 9 | 5 | 3 | 1 |" in text
    assert "- sources: 1 times KeyError at augment/task.py:1 (mutations 7): 'input'" in text
    assert "**1 of 2 kills survived**" in text
    assert "- vote: killed after operation 2, open b: left over: b" in text
