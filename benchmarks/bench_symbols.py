"""How fast the symbol axis trains and predicts beside the plain network, at equal weights too, and what it should cost.

    python -m benchmarks.bench_symbols [--rounds 10] [--threads 1 --threads 2] [--out FILE]

The symbol axis is timed without its kernels (`solver.model.symbol_kernels`) as well.

On a CPU, on the 27 development tasks (`benchmarks.search.tasks.six`). Every round trains and predicts one batch with
each network and number of threads in turn, so that ratios hold where the speed drifts. Operations are counted for the
same batches (`pipeline.training.flop`).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read on import: threads that wait leave the core to other work

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from textwrap import wrap as wrap_text
from time import perf_counter
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer

from augment import Task
from benchmarks.search.settings import SETTINGS
from benchmarks.search.tasks import six
from benchmarks.search.trial import build_tasks
from pipeline.config.run_config import RunConfig, override
from pipeline.runtime.console import Console
from pipeline.runtime.provenance import processor, versions
from pipeline.training.flop import work_of
from pipeline.training.setup import make_learner
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model import symbol_kernels as kernels
from solver.model.config import ModelConfig
from solver.model.model import RecursiveModel
from solver.training.deep_supervision import predict_steps

BATCHES = 4
"""Training batches that the rounds go through again and again."""

WIDTHS = range(16, 257, 4)
"""Hidden sizes among which the plain network with as many weights is chosen: heads of an even size."""

WORK = ("training", "prediction")
CHAINS = ", without kernels"
"""End of the name of what is timed by chains of PyTorch's operations in place of `solver.model.symbol_kernels`."""


def count_weights(config: ModelConfig) -> int:
    """Weights of the network, without the ID table."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in RecursiveModel(config).parameters())


def as_large(config: RunConfig, weights: int) -> RunConfig:
    """The config with the hidden size that comes closest to so many weights; inner sizes in steps of 16."""
    choices = [override(config, {"model.hidden": hidden, "model.inner_multiple": 16}) for hidden in WIDTHS]
    return min(choices, key=lambda choice: abs(count_weights(choice.model) - weights))


def make_configs() -> dict[str, RunConfig]:
    """The networks that are compared, by name."""
    plain, symbols = SETTINGS["shipped"].config(), SETTINGS["symbols"].config()
    small = as_large(plain, count_weights(symbols.model))
    name = f"symbols of the task, hidden {symbols.model.hidden}"
    return {
        f"plain, hidden {plain.model.hidden}": plain,
        f"plain, hidden {small.model.hidden}": small,
        name: symbols,
        name + CHAINS: symbols,
        f"all {symbols.model.vocabulary} symbols, hidden {symbols.model.hidden}": override(
            symbols, {"model.palette": "all"}
        ),
    }


class Contender:
    """One network, its learner, and batches to train on and to predict; seconds of each work by number of threads."""

    def __init__(self, name: str, config: RunConfig, tasks: list[Task]):
        self.name, self.config = name, config
        puzzle_set, settings = build_tasks(config, tasks), config.train
        examples = PuzzleDataset(puzzle_set, config.model.canvas, ids=config.puzzles.ids, palette=config.model.palette)
        sampler = examples.sampler(config.seed, settings.source_weights)
        self.batches = [examples.training_batch(sampler, settings.batch_size, settings.shift) for _ in range(BATCHES)]
        self.learner = make_learner(config, examples.row_keys, torch.device("cpu"), Console(quiet=True), None)
        self.steps = config.predict.steps or config.model.max_steps
        self.seconds: dict[tuple[str, int], list[float]] = {}

    @property
    def weights(self) -> int:
        """Weights of the network, without the ID table."""
        return sum(weight.numel() for weight in self.learner.model.parameters())

    def run(self, number: int, threads: int, counts: bool = True) -> None:
        """Train on a batch and predict it; compiling and first allocations should not count."""
        torch.set_num_threads(threads)
        batch = self.batches[number % BATCHES]
        works = {"training": lambda: self.learner.step(batch), "prediction": lambda: self._predict(batch)}
        fits = (lambda _: False) if self.name.endswith(CHAINS) else kernels.fits
        for work, do in works.items():
            with patch.object(kernels, "fits", fits):
                seconds = time_of(do)
            if counts:
                self.seconds.setdefault((work, threads), []).append(seconds)

    @torch.inference_mode()
    def _predict(self, batch: Batch) -> None:
        for _ in predict_steps(self.learner.model, self.learner.table, batch, self.steps):
            pass

    def rates(self, work: str, threads: int) -> np.ndarray:
        """Examples a second of each round, ascending."""
        return self.config.train.batch_size / np.sort(self.seconds[work, threads])[::-1]

    def flop(self) -> dict[str, float]:
        """FLOP of each work for one example, the mean over the batches."""
        works = np.concatenate([self._count(batch) for batch in self.batches], axis=1)
        forward, step = works.mean(axis=1).tolist()
        return {"training": step, "prediction": self.steps * forward}

    def _count(self, batch: Batch) -> np.ndarray:
        """FLOP of each example, forward and of a training step: (2, B)."""
        model = self.config.model
        positions_B = model.id_slots + (batch.cells_BS >= 0).sum(1).numpy().astype(np.float64)
        symbols_B = batch.symbols_BV.sum(1).numpy().astype(np.float64)
        return np.stack(work_of(model, positions_B, symbols_B))


def wrap(text: str) -> list[str]:
    """A paragraph's lines."""
    return wrap_text(text, 120)


def time_of(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def compare(configs: Mapping[str, RunConfig], tasks: list[Task], threads: list[int], rounds: int) -> list[Contender]:
    """All networks, timed in turn."""
    before = torch.get_num_threads()
    contenders = [Contender(name, config, tasks) for name, config in configs.items()]
    for number in range(-1, rounds):
        for count in threads:
            for contender in contenders:
                contender.run(number, count, counts=number >= 0)
    torch.set_num_threads(before)
    return contenders


def describe(contenders: list[Contender], tasks: int, threads: list[int], command: str, note: str | None) -> str:
    """The result file's text."""
    made, first = versions(), contenders[0]
    rounds = len(first.seconds["training", threads[0]])
    lines = [
        f"# The symbol axis beside the plain network: `{command}`",
        "",
        *wrap(
            f"{tasks} tasks, batches of {first.config.train.batch_size} examples. Prediction makes {first.steps} "
            f"supervision steps. Medians of {rounds} rounds, with the lowest and the highest."
        ),
        "",
        *(line for work in WORK for line in describe_work(contenders, work, threads)),
        *wrap(
            "Weights are without ID rows. Operations are those of matrix products and attention, a backward pass twice "
            "its forward; training includes the optimizers. GFLOP/s are of the fewest threads."
        ),
        "",
        *([*wrap(note), ""] if note else []),
        *wrap(
            f"{processor()}, {made['cores']} cores. Commit {made['commit']}, torch {made['torch']}, numba "
            f"{made['numba']}, Python {made['python']}."
        ),
    ]
    return "\n".join(lines) + "\n"


def describe_work(contenders: list[Contender], work: str, threads: list[int]) -> Iterator[str]:
    """The table of training or of prediction."""
    yield f"| {work} | weights | MFLOP/example | GFLOP/s | {' | '.join(f'examples/s, threads: {n}' for n in threads)} |"
    yield "|---" * (4 + len(threads)) + "|"
    for contender in contenders:
        flop = contender.flop()[work]
        rates = [contender.rates(work, count) for count in threads]
        speed = flop * median(rates[threads.index(min(threads))]) / 1e9
        cells = [f"{median(rate):,.1f} ({rate[0]:,.1f} to {rate[-1]:,.1f})" for rate in rates]
        yield f"| {contender.name} | {contender.weights:,} | {flop / 1e6:,.1f} | {speed:,.1f} | {' | '.join(cells)} |"
    yield ""


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads  [default: 1 and 2]")] = None,
    note: Annotated[str | None, typer.Option(help="A sentence for the text, such as what else was running")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Train and predict with all networks in turn."""
    tasks, counts = six(), threads or [1, 2]
    contenders = compare(make_configs(), tasks, counts, rounds)
    command = f"python -m benchmarks.bench_symbols --rounds {rounds}"
    command += "".join(f" --threads {count}" for count in threads or [])
    text = describe(contenders, len(tasks), counts, command, note)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
