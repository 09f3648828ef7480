"""Runs a model on test inputs: takes `Queries`, returns predictions in the task's own frame, one `Shard` for each part.

While the device computes a batch, a thread decodes the previous one in numba, without the interpreter's lock. At most
three batches and the predictions of the current part are in memory.
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

from pipeline.prediction.workload import Queries, Workload
from pipeline.training.batch_size import BatchSize
from solver.data.batch import Batch
from solver.data.batches import check_board
from solver.data.decode import decode_batch
from solver.data.tokens import END
from solver.model.config import LossName
from solver.model.model import RecursiveModel
from solver.model.noise import NoiseSource, make_keys
from solver.model.output import Output
from solver.model.packing import Layout
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.recursion import Watch
from solver.model.step_records import StepRecords
from solver.model.symbol_axis import SymbolLayout
from solver.model.trace import LatentTrace, TraceRecorder
from solver.training.deep_supervision import predict_steps
from solver.training.loss import log_probabilities
from submissions.grid_table import collect_rows, join_grids
from submissions.predictions import NO_GRID, PredictionRows, Shard
from submissions.recursion_trace import Recursion

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ComputedBatch:
    """The model's output for a batch of n rows at the T recorded supervision steps.

    Attributes:
        asked: the rows.
        tokens: the most likely tokens, uint8 (n, T, cells).
        log_probs: log-probabilities of these tokens and of an end mark in their place, float32 (n, T, cells, 2).
        halts: halting logits, float64 (n, T).
        values: outputs of the value head, float32 (n, T).
        steps: the numbers of the supervision steps, from 1.
        traced: the recorded latents of some rows, by row.
    """

    asked: Queries
    tokens: NDArray[np.uint8]
    log_probs: NDArray[np.float32]
    halts: NDArray[np.float64]
    values: NDArray[np.float32]
    steps: list[int]
    traced: dict[int, LatentTrace]


class Predictor:
    """Predicts rows of a workload with all supervision steps, without halting.

    Args:
        model: the model on its device, in its precision.
        table: its ID rows.
        questions: the workload that the rows are from.
        steps: the number of supervision steps; None for as many as in training.
        record: whether the predictions of the last supervision step are returned, or those of all.
        noise, temperature: of the trajectories (`solver.model.noise.NoiseSource`).
        seed: the seed of their noise.
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
        """Predict rows of one width, in their order; `report` is called with the number of rows of each batch."""
        return self.work_through(asked, memory, self.compute, self._take_back, report)

    def work_through(
        self,
        asked: Queries,
        memory: BatchSize,
        compute: Callable[[Queries], Result],
        finish: Callable[[Result], Shard],
        report: Callable[[int], None],
    ) -> Shard:
        """Process rows of one width in batches, with the device and the CPU in parallel.

        Args:
            asked: the rows.
            memory: chooses the batch sizes.
            compute: runs a batch on the device.
            finish: turns its result into rows, in a thread, while the device computes the next batch.
            report: called with the number of rows of each batch.
        """

        def work(rows: slice) -> tuple[int, Result]:
            return rows.stop - rows.start, compute(asked.take(rows))

        pieces: list[Shard] = []
        pending: deque[Future[Shard]] = deque()
        with ThreadPoolExecutor(max_workers=1) as thread:
            for rows, computed in memory.batches(len(asked), self.width(asked), work):
                pending.append(thread.submit(finish, computed))
                report(rows)
                if len(pending) > 1:  # bounds the memory where the thread is slower than the device
                    pieces.append(pending.popleft().result())
            pieces += [future.result() for future in pending]
        return join_pieces(pieces)

    def width(self, asked: Queries) -> int:
        """Return the number of cells that every row is padded to; all rows must have the same."""
        return int(self.questions.examples_of(asked).widths(asked.puzzles[:1])[0])

    def compute(self, asked: Queries) -> ComputedBatch:
        """Run the model on a batch; the latents of un-augmented rows are traced along their first trajectory.

        The results of all supervision steps are copied to main memory together, after the last step.
        """
        batch = self.render(asked)
        layout = self.model.layout(batch)
        unchanged = self.questions.puzzle_set.augmentations[asked.puzzles] == 0
        traced_rows = np.flatnonzero(unchanged & (asked.trajectories == 0))
        trace = TraceRecorder(self.model, batch, traced_rows, layout)
        records = StepRecords()
        watch = trace.watch if len(traced_rows) else None
        for step, output in enumerate(self.outputs(asked, batch, self.steps, watch, layout), 1):
            trace.add(output)
            if step in self.recorded:
                records.add(_read(output, self.model.loss))
        tokens, log_probs, halts, values = records.stacked()
        traced = dict(zip(traced_rows.tolist(), trace.examples(), strict=True)) if len(traced_rows) else {}
        return ComputedBatch(asked, tokens, log_probs, halts, values, list(self.recorded), traced)

    def render(self, asked: Queries) -> Batch:
        """Render the rows as a batch on the device."""
        return self.questions.examples_of(asked).render(asked.puzzles, asked.pairs).to(self.table.weights_PI.device)

    def try_boards(self, asked: Queries, boards: int) -> None:
        """Compute a batch of the given size in boards, to measure the memory that it takes.

        One supervision step is enough: the later ones use the same memory again.
        """
        config = self.model.config
        rows = boards * (config.id_slots + config.cells) // (config.id_slots + self.width(asked))
        asked = asked.take(np.resize(np.arange(len(asked)), rows))
        for output in self.outputs(asked, self.render(asked), 1):
            _read(output, self.model.loss)

    def outputs(
        self,
        asked: Queries,
        batch: Batch,
        steps: int,
        watch: Watch | None = None,
        layout: Layout | SymbolLayout | None = None,
    ) -> Iterator[Output]:
        """Run the model, and return an iterator over its outputs after each supervision step.

        The noise of a row is keyed by seed, puzzle, pair and trajectory: it is the same in any batch, part and process.
        """
        noise_source = None
        if self.noise or self.model.config.recursion.noisy:
            columns = [np.full(len(asked), self.seed), asked.puzzles, asked.pairs, asked.trajectories]
            keys_B = make_keys(np.stack(columns, axis=1), self.model.device)
            noise_source = NoiseSource(keys_B, self.noise, self.temperature)
        return predict_steps(self.model, self.table, batch, steps, noise_source, watch, layout)

    def _take_back(self, computed: ComputedBatch) -> Shard:
        """Decode the tokens and undo the augmentations; one row for each query and recorded step, in this order."""
        queries = computed.asked
        times = len(computed.steps)
        examples = self.questions.examples_of(queries)
        puzzles = queries.puzzles.repeat(times)
        tokens = computed.tokens.reshape(len(puzzles), -1)
        log_probs = computed.log_probs
        best, end = (np.ascontiguousarray(log_probs[..., kind].reshape(tokens.shape)) for kind in (0, 1))
        decoded = decode_batch(
            tokens, best, end, examples.canvas_sizes(puzzles), examples.dihedrals[puzzles], examples.colours[puzzles],
            examples.side,
        )  # fmt: skip
        grids, numbers = collect_rows(decoded.heights, decoded.widths, decoded.cells)
        tasks, tests = self.questions.inputs_of(queries.puzzles, queries.pairs)
        steps = np.tile(np.array(computed.steps, np.uint16), len(queries))
        answers = PredictionRows(
            task=tasks.astype(np.int32).repeat(times),
            test=tests.astype(np.int32).repeat(times),
            augmentation=self.questions.puzzle_set.augmentations[puzzles],
            trajectory=queries.trajectories.astype(np.uint16).repeat(times),
            step=steps,
            last=steps == self.steps,
            board=np.full(len(steps), queries.board),
            edge=decoded.edges,
            grid=numbers,
            log_prob=decoded.log_probs,
            halt_logit=computed.halts.reshape(-1),
            value=computed.values.reshape(-1),
        )
        sizes = examples.canvas_sizes(queries.puzzles)
        recursions = {
            (int(tasks[row]), int(tests[row])): _as_recursion(traced, sizes[row])
            for row, traced in computed.traced.items()
        }
        return Shard(answers, grids, recursions)


def join_pieces(pieces: list[Shard]) -> Shard:
    """Join the predictions (or scores) of several batches into one part, in which each distinct grid occurs once."""
    grids, numbers = join_grids([piece.grids for piece in pieces])
    renumbered = [
        # NO_GRID is -1, so that as an index it selects the value that is appended last.
        replace(piece.rows, grid=np.append(number, np.int32(NO_GRID))[piece.rows.grid])
        for piece, number in zip(pieces, numbers, strict=True)
    ]
    recursions = {key: recursion for piece in pieces for key, recursion in piece.recursions.items()}
    return Shard(type(renumbered[0]).joined(renumbered), grids, recursions)


def _read(output: Output, loss: LossName) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tokens, log-probabilities, halting logits and values of one supervision step, on its device."""
    tokens_BC = output.logits_BCV.argmax(-1)
    read_BC2 = torch.stack((tokens_BC, torch.full_like(tokens_BC, END)), dim=-1)
    log_probs_BC2 = log_probabilities(output.logits_BCV, read_BC2, loss).float()
    return tokens_BC.to(torch.uint8), log_probs_BC2, output.halt_B.double(), output.value_B.float()


def _as_recursion(traced: LatentTrace, canvas: NDArray[np.int64]) -> Recursion:
    rows, columns = canvas.tolist()
    frames = len(traced.answer) if traced.reasoning.size else 0
    answer = traced.answer[:, : rows * columns].reshape(-1, rows, columns)
    reasoning = traced.reasoning[:, : rows * columns].reshape(frames, rows, columns)
    return Recursion(answer, reasoning, traced.answer_moved, traced.reasoning_moved, traced.halting)
