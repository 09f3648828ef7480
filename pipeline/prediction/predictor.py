"""A model over test inputs: rows to answer come in, their answers in the task's own frame go out, part by part.

The device computes one batch after another; a thread decodes the one before meanwhile, in numba and without the
interpreter's lock. No more than three are in memory, and the answers of the part at hand.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.prediction.batch_size import BatchSize
from pipeline.prediction.workload import Queries, Workload
from solver.data.batches import Batch, check_board
from solver.data.decode import take_back
from solver.data.tokens import END
from solver.model.config import LossName
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource, make_keys
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.recursion import Watch
from solver.model.trace import LatentTrace, TraceRecorder
from solver.training.deep_supervision import predict_steps
from solver.training.loss import log_probabilities
from submissions.grid_table import collect_rows, join_grids
from submissions.predictions import NO_GRID, PredictionRows, Shard
from submissions.recursion_trace import Recursion

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ComputedBatch:
    """What the device gave for a batch of n rows at the T supervision steps that are kept.

    tokens: uint8 (n, T, cells), the likeliest; log_probs: float32 (n, T, cells, 2), of these tokens and of an end mark
    in their place; halts: float64 (n, T), halting logits; values: float32 (n, T), what the value head says
    steps: their numbers, from 1; traced: by row
    """

    asked: Queries
    tokens: NDArray[np.uint8]
    log_probs: NDArray[np.float32]
    halts: NDArray[np.float64]
    values: NDArray[np.float32]
    steps: list[int]
    traced: dict[int, LatentTrace]


class Predictor:
    """Answers rows of `questions`, at all supervision steps without halting.

    Args:
        model: on its device, in its precision; table: its ID rows.
        questions: what the rows mean.
        steps: supervision steps, None for as many as in training; record: those whose answers are kept.
        noise, temperature: of the trajectories, see `solver.model.noise.NoiseSource`; drawn from `seed`.
    """

    def __init__(
        self,
        model: RecursiveModel,
        table: PuzzleEmbedding,
        questions: Workload,
        steps: int | None = None,
        record: Literal["last", "all"] = "last",
        noise: float = 0.0,
        seed: int = 0,
        temperature: float = 1.0,
    ):
        check_board(questions.puzzle_set, model.config.board_side)
        self.model = model.eval()
        self.table = table
        self.questions = questions
        self.steps = steps or model.config.max_steps
        self.seed = seed
        self.noise = noise
        self.temperature = temperature
        self.recorded = range(1, self.steps + 1) if record == "all" else [self.steps]

    def answer(self, asked: Queries, memory: BatchSize, report: Callable[[int], None] = lambda rows: None) -> Shard:
        """The answers to rows of one width, in their order; `report` is called with the number of each batch's rows."""
        return self.work_through(asked, memory, self.compute, self._take_back, report)

    def work_through(
        self,
        asked: Queries,
        memory: BatchSize,
        compute: Callable[[Queries], Result],
        finish: Callable[[Result], Shard],
        report: Callable[[int], None],
    ) -> Shard:
        """Rows of one width batch by batch: `compute` on the device, and `finish` in a thread meanwhile."""

        def work(rows: slice) -> tuple[int, Result]:
            return rows.stop - rows.start, compute(asked.take(rows))

        pieces: list[Shard] = []
        waiting: deque[Future[Shard]] = deque()
        with ThreadPoolExecutor(max_workers=1) as thread:
            for rows, computed in memory.batches(len(asked), self.width(asked), work):
                waiting.append(thread.submit(finish, computed))
                report(rows)
                if len(waiting) > 1:
                    pieces.append(waiting.popleft().result())
            pieces += [future.result() for future in waiting]
        return join_pieces(pieces)

    def width(self, asked: Queries) -> int:
        """The cells that every row is padded to."""
        return int(self.questions.examples_of(asked).widths(asked.puzzles[:1])[0])

    def compute(self, asked: Queries) -> ComputedBatch:
        """Run a batch."""
        batch = self.render(asked)
        unchanged = self.questions.puzzle_set.augmentations[asked.puzzles] == 0
        followed = np.flatnonzero(unchanged & (asked.trajectories == 0))
        trace = TraceRecorder(self.model, batch, followed)
        kept = []
        watch = trace.watch if len(followed) else None
        for step, output in enumerate(self.outputs(asked, batch, self.steps, watch), 1):
            trace.add(output)
            if step in self.recorded:
                kept.append(_read(output, self.model.loss))
        tokens, log_probs, halts, values = (torch.stack(column, dim=1).numpy() for column in zip(*kept, strict=True))
        traced = dict(zip(followed.tolist(), trace.examples(), strict=True)) if len(followed) else {}
        return ComputedBatch(asked, tokens, log_probs, halts, values, list(self.recorded), traced)

    def render(self, asked: Queries) -> Batch:
        """The rows as a batch on the device."""
        return self.questions.examples_of(asked).render(asked.puzzles, asked.pairs).to(self.table.weights_PI.device)

    def try_boards(self, asked: Queries, boards: int) -> None:
        """Compute as many rows as that many full boards have room for, one supervision step: what takes the memory."""
        config = self.model.config
        rows = boards * (config.id_slots + config.cells) // (config.id_slots + self.width(asked))
        asked = asked.take(np.resize(np.arange(len(asked)), rows))
        for output in self.outputs(asked, self.render(asked), 1):
            _read(output, self.model.loss)

    def outputs(self, asked: Queries, batch: Batch, steps: int, watch: Watch | None = None) -> Iterator[Output]:
        """Of every supervision step. Chance is a row's own: it is the same in any batch, part and process."""
        chance = None
        if self.noise or self.model.config.recursion.noisy:
            whose = [np.full(len(asked), self.seed), asked.puzzles, asked.pairs, asked.trajectories]
            keys_B = make_keys(np.stack(whose, axis=1), self.model.device)
            chance = NoiseSource(keys_B, self.noise, self.temperature)
        return predict_steps(self.model, self.table, batch, steps, chance, watch)

    def _take_back(self, computed: ComputedBatch) -> Shard:
        """Decode and undo the augmentations; one row for each row asked and step kept, in this order."""
        asked = computed.asked
        times = len(computed.steps)
        examples = self.questions.examples_of(asked)
        puzzles = asked.puzzles.repeat(times)
        tokens = computed.tokens.reshape(len(puzzles), -1)
        log_probs = computed.log_probs
        best, end = (np.ascontiguousarray(log_probs[..., kind].reshape(tokens.shape)) for kind in (0, 1))
        decoded = take_back(
            tokens, best, end, examples.canvas_sizes(puzzles), examples.dihedrals[puzzles], examples.colours[puzzles],
            examples.side,
        )  # fmt: skip
        grids, numbers = collect_rows(decoded.heights, decoded.widths, decoded.cells)
        tasks, tests = self.questions.inputs_of(asked.puzzles, asked.pairs)
        steps = np.tile(np.array(computed.steps, np.uint16), len(asked))
        answers = PredictionRows(
            task=tasks.astype(np.int32).repeat(times),
            test=tests.astype(np.int32).repeat(times),
            augmentation=self.questions.puzzle_set.augmentations[puzzles],
            trajectory=asked.trajectories.astype(np.uint16).repeat(times),
            step=steps,
            last=steps == self.steps,
            board=np.full(len(steps), asked.board),
            edge=decoded.edges,
            grid=numbers,
            log_prob=decoded.log_probs,
            halt_logit=computed.halts.reshape(-1),
            value=computed.values.reshape(-1),
        )
        sizes = examples.canvas_sizes(asked.puzzles)
        recursions = {
            (int(tasks[row]), int(tests[row])): _as_recursion(traced, sizes[row])
            for row, traced in computed.traced.items()
        }
        return Shard(answers, grids, recursions)


def join_pieces(pieces: list[Shard]) -> Shard:
    """Answers (or scores) of several batches as one part."""
    grids, numbers = join_grids([piece.grids for piece in pieces])
    renumbered = [
        replace(piece.rows, grid=np.append(number, np.int32(NO_GRID))[piece.rows.grid])
        for piece, number in zip(pieces, numbers, strict=True)
    ]
    recursions = {key: shown for piece in pieces for key, shown in piece.recursions.items()}
    return Shard(type(renumbered[0]).joined(renumbered), grids, recursions)


def _read(output: Output, loss: LossName) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, log-probabilities, halting logits and values of one supervision step, in the machine's memory."""
    tokens_BC = output.logits_BCV.argmax(-1)
    read_BC2 = torch.stack((tokens_BC, torch.full_like(tokens_BC, END)), dim=-1)
    log_probs_BC2 = log_probabilities(output.logits_BCV, read_BC2, loss).float()
    judged = output.halt_B.double().cpu(), output.value_B.float().cpu()
    return tokens_BC.to(torch.uint8).cpu(), log_probs_BC2.cpu(), *judged


def _as_recursion(traced: LatentTrace, canvas: NDArray[np.int64]) -> Recursion:
    rows, columns = canvas.tolist()
    frames = len(traced.answer) if traced.reasoning.size else 0
    answer = traced.answer[:, : rows * columns].reshape(-1, rows, columns)
    reasoning = traced.reasoning[:, : rows * columns].reshape(frames, rows, columns)
    return Recursion(answer, reasoning, traced.answer_moved, traced.reasoning_moved, traced.halting)
