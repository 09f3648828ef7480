"""How large a report of real tasks is, how long it takes to write, and how long to open in headless Chromium.

    python -m benchmarks.bench_report [--source arc-agi-1/evaluation] [--candidates 20] [--steps 16] [--out FILE]

The tasks are real, the answers made up to look like a model's: candidates that differ from the truth in patches, votes
that fall off, a recursion that settles. "Open" is from navigation to the DOM being ready and the first pictures on the
wall drawn; "a task" from a click to the drawn page.
"""

import math
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

from augment import Grid, Task, load_tasks, task_canvas
from pipeline.runtime.provenance import processor, versions
from submissions import Candidate, Recursion, make_submission, score_submission, write_report
from submissions.report.html_report import INDEX, Form
from submissions.report.views import FIRST_COLOUR
from tests.helpers.browser import Browser, find_chromium

END = 1
WATCH = """
window.opened = new Promise((done) => new MutationObserver((_, watcher) => {
  if (document.readyState === "loading" || !document.querySelector("canvas.drawn")) return;
  watcher.disconnect();
  requestAnimationFrame(() => done(performance.now()));
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] }));
"""
OPEN_A_TASK = """
(async () => {
  const start = performance.now();
  document.querySelectorAll(".tile")[%d].click();
  while (!document.querySelector("#task canvas.drawn")) await new Promise(requestAnimationFrame);
  return performance.now() - start;
})()
"""


def make_up(tasks: list[Task], candidates: int, steps: int, seed: int = 0) -> dict[str, Any]:
    """Ballot, recursions and training curves for `write_report`."""
    ballot, recursions = {}, {}
    for number, task in enumerate(tasks):
        rng = np.random.default_rng((seed, number))
        # Where the truth is hidden, something else has to be wanted.
        truths = [pair.input if pair.output is None else pair.output for pair in task.tests]
        ballot[task.id] = [make_up_candidates(truth, candidates, rng) for truth in truths]
        for test, truth in enumerate(truths):
            recursions[task.id, test] = make_up_recursion(task, truth, ballot[task.id][test][0].grid, steps, rng)
    return {"ballot": ballot, "recursions": recursions, "curves": make_up_curves(seed)}


def make_up_candidates(truth: Grid, count: int, rng: np.random.Generator) -> list[Candidate]:
    """Different grids with falling votes; the truth stands first, further down or nowhere."""
    grids = [spoil(truth, rng, 1 + place // 2) for place in range(count)]
    place = int(rng.geometric(0.45)) - 1
    if place < 6:
        grids[place * 2 : place * 2] = [truth]
    different = {grid.tobytes() + bytes(grid.shape): grid for grid in grids}.values()
    shares = np.sort(rng.dirichlet(np.full(len(different), 0.25)))[::-1]
    return [
        Candidate(
            grid, max(1, int(1000 * share)), float(rng.beta(2 + 6 * share, 2)), max(1, int(700 * share)),
            float(-rng.exponential(0.02 + 0.2 * (1 - share))),
        )
        for grid, share in zip(different, shares, strict=True)
    ]  # fmt: skip


def spoil(grid: Grid, rng: np.random.Generator, patches: int) -> Grid:
    """The grid with some patches of one of its own colours; sometimes cut short."""
    spoiled = grid.copy()
    for _ in range(patches):
        top, left = (int(rng.integers(side)) for side in grid.shape)
        height, width = rng.integers(1, 4, 2)
        spoiled[top : top + height, left : left + width] = rng.choice(np.append(np.unique(grid), rng.integers(10)))
    return spoiled[: max(1, len(spoiled) - int(rng.random() < 0.15))].copy()


def make_up_recursion(task: Task, truth: Grid, answer: Grid, steps: int, rng: np.random.Generator) -> Recursion:
    """Noise that gives way to `answer`, whole regions at a time; the reasoning stays noisier."""
    wanted = place_on_canvas(answer, task_canvas(task))
    settles = smooth_noise(wanted.shape, rng) * steps * rng.uniform(0.3, 0.8)
    noise = rng.choice(np.append(np.unique(truth) + FIRST_COLOUR, 0), (steps, *wanted.shape)).astype(np.uint8)
    past = np.arange(steps)[:, None, None]
    frames = np.where(past >= settles, wanted, np.where(rng.random(noise.shape) < 0.4, noise, np.roll(wanted, 1, 0)))
    held = smooth_noise(wanted.shape, rng) < 0.5 + 0.02 * past
    reasoning = np.where(held, frames, np.where(rng.random(noise.shape) < 0.85, noise[-1], noise))
    fall = np.exp(-np.arange(steps) / rng.uniform(1.5, 4)).astype(np.float32)
    halting = (1 / (1 + np.exp(-(np.arange(steps) - steps / 3)))).astype(np.float32)
    answer_moved, reasoning_moved = fall[:, None] * [1, 0.8, 0.7], 0.25 + 0.75 * fall[:, None] ** np.arange(1, 10)
    return Recursion(
        frames.astype(np.uint8), reasoning.astype(np.uint8),
        answer_moved.astype(np.float32), reasoning_moved.astype(np.float32), halting,
    )  # fmt: skip


def place_on_canvas(grid: Grid, canvas: tuple[int, int]) -> Grid:
    """The tokens of a canvas with a grid and its end marks."""
    height, width = grid.shape
    board = np.zeros(np.maximum(canvas, grid.shape), np.uint8)
    board[height : height + 1, :width] = board[:height, width : width + 1] = END
    board[:height, :width] = grid + FIRST_COLOUR
    return board


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Values between 0 and 1 that are alike where they are near."""
    rough = rng.random((math.ceil(shape[0] / 3), math.ceil(shape[1] / 3)))
    fine = np.repeat(np.repeat(rough, 3, 0), 3, 1)[: shape[0], : shape[1]]
    return (fine + 0.25 * rng.random(shape)) / 1.25


def make_up_curves(seed: int, lines: int = 600) -> list[dict[str, float]]:
    """A loss that falls and shares that rise, as metrics.jsonl has them."""
    rng, parts = np.random.default_rng(seed), np.arange(1, lines + 1) / lines
    noise = rng.normal(0, 0.02, (3, lines))
    loss, exact = 1.9 * np.exp(-4 * parts) + 0.12 + noise[0] / 2, 0.85 * (1 - np.exp(-3 * parts))
    rows = zip(parts, loss, np.clip(exact + noise[1], 0, 1), np.clip(exact / 2 + noise[2], 0, 1), strict=True)
    return [
        {"step": int(10 * lines * part), "loss": float(a), "exact": float(b), "held_out_exact": float(c)}
        for part, a, b, c in rows
    ]


def time_opening(page: Path, program: str, rounds: int) -> dict[str, float]:
    """Median milliseconds to open the page, and then a task."""
    opened, tasks = [], []
    for number in range(rounds):
        with Browser(program) as browser:
            browser.resize(1440, 900)
            browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
            browser.open(page)
            opened.append(browser.evaluate("window.opened"))
            tasks.append(browser.evaluate(OPEN_A_TASK % number))
            if browser.errors:
                raise ValueError(f"{page}: {browser.errors[0]}")
    return {"open": median(opened), "a task": median(tasks)}


def measure(tasks: list[Task], source: str, candidates: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Bytes, seconds to write and milliseconds to open, of both forms."""
    made, program, rows = make_up(tasks, candidates, steps), find_chromium(), []
    submission = make_submission(made["ballot"], tasks)
    details = {"title": source, "score": score_submission(submission, tasks, source, made["ballot"], []), **made}
    with TemporaryDirectory() as temporary:
        file, folder = Path(temporary) / "report.html", Path(temporary) / "report"
        forms: dict[Form, Path] = {"file": file, "folder": folder / INDEX}
        for form, page in forms.items():
            start = perf_counter()
            write_report(file if form == "file" else folder, tasks, submission, form=form, **details)
            seconds, files = perf_counter() - start, [file] if form == "file" else [*folder.rglob("*.*")]
            row = {"form": form, "bytes": sum(path.stat().st_size for path in files), "write": seconds}
            rows.append(row | (time_opening(page, program, rounds) if program else {}))
    return rows


def describe(rows: list[dict[str, Any]], tasks: int, command: str) -> str:
    """The result file's text."""
    made = versions()
    lines = [
        f"# A report of {tasks} tasks: `{command}`",
        "",
        "| form | MB | seconds to write | seconds to open | seconds to open a task |",
        "|---|---|---|---|---|",
        *(
            f"| {row['form']} | {row['bytes'] / 1e6:.2f} | {row['write']:.1f} "
            f"| {row.get('open', math.nan) / 1e3:.2f} | {row.get('a task', math.nan) / 1e3:.2f} |"
            for row in rows
        ),
        "",
        "Answers are made up. Opening: headless Chromium, 1440 x 900, medians, each in a new browser.",
        "",
        f"{processor()}, {made['cores']} cores. Commit {made['commit']}, Python {made['python']}.",
    ]
    return "\n".join(lines) + "\n"


def main(
    source: str = "arc-agi-1/evaluation",
    candidates: int = 20,
    steps: int = 16,
    rounds: int = 5,
    out: Annotated[Path | None, typer.Option(help="Write the table here too")] = None,
) -> None:
    """Make up answers, write the report in both forms, open both."""
    tasks = load_tasks(source)
    command = f"python -m benchmarks.bench_report --source {source} --candidates {candidates} --steps {steps}"
    text = describe(measure(tasks, source, candidates, steps, rounds), len(tasks), f"{command} --rounds {rounds}")
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
