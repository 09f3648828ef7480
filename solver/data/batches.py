"""Rendering of a puzzle set's examples into batches of tensors (`solver.data.sampler` chooses the examples).

Examples are rendered when a batch is made, each time with a new random shift. A batch is as wide as the whole board, or
with task canvases as the smallest of a few fixed widths (`augment.canvas`) that fits its largest canvas.

Shape letters: B examples, S cells of the widest canvas in the batch, V vocabulary, K colours.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from augment.augmentation import decode_numbers
from augment.canvas import fixed_width
from augment.colour_draws import find_fixed, permute_free, shown_colours
from augment.dihedral import TRANSPOSES
from augment.grid import COLOURS
from augment.logic_puzzles.symmetry import Symmetries
from augment.puzzle_set import PuzzleSet
from solver.data.batch import Batch, move_cells
from solver.data.choices import Palette, Visits
from solver.data.puzzle_ids import Ids, draws_colours, find_rows
from solver.data.sampler import Rows, Sampler, weigh_tasks
from solver.data.tokens import COLOUR, VOCABULARY, render_examples

WHOLE = slice(None)


def check_board(puzzle_set: PuzzleSet, board_side: int) -> None:
    """Raise ValueError if a model's board has another side than the set's, as its cell numbers would not fit."""
    if puzzle_set.board_side != board_side:
        raise ValueError(
            f"the puzzle set was built for a board of side {puzzle_set.board_side}, but model.board_side is "
            f"{board_side}: build the set with --board-side {board_side}, or change the setting"
        )


def _find_fixed(puzzle_set: PuzzleSet) -> NDArray[np.bool_]:
    """Return which colours a new draw keeps, (tasks, 10); ValueError if the set has no rule for draws."""
    rule = puzzle_set.draws
    if rule == "distinct":
        raise ValueError(
            "the puzzle set holds distinct augmentations, but new colour draws at each visit need a set of transforms: "
            "build it with --ids transform, or set puzzles.ids=augmentation"
        )
    return np.stack([find_fixed(task, rule) for task in puzzle_set.tasks])


def find_palette(puzzle_set: PuzzleSet, palette: Palette) -> NDArray[np.bool_]:
    """Return which colours the public grids of each task contain, (tasks, 10); with "all", all of them."""
    if palette == "all":
        return np.ones((len(puzzle_set.tasks), COLOURS), bool)
    # The outputs of a scored task's test inputs are not public, so they must not influence the palette.
    tasks = zip(puzzle_set.tasks, puzzle_set.roles, strict=True)
    return np.stack([shown_colours(task if role == "train" else task.hidden()) for task, role in tasks])


class PuzzleDataset:
    """All pairs of a puzzle set, which can be rendered under any of its augmentations.

    A task's pairs are numbered from 0: training pairs, then held-out pairs, then the test inputs of a scored task.

    Args:
        puzzle_set: the tasks and their augmentations; its board is the one rendered.
        canvas: "full" renders the whole board, "task" each task's canvas only (`augment.canvas`).
        held_out: numbers of the tasks whose last demonstration is not trained on.
        symmetries: symmetries of whole boards that training examples are drawn under; None for none.
        ids: which ID row a puzzle has, and whether each visit draws new colours (`solver.data.puzzle_ids`).
        palette: the symbols of an example: those of its task's public grids ("task"), or "all".
        redraw: False for a model that is equivariant to colours, for which new colour draws would change nothing.

    Attributes:
        row_keys: the key of every row of the ID table.
        id_rows: the row of every puzzle (puzzles,).
    """

    def __init__(
        self,
        puzzle_set: PuzzleSet,
        canvas: Literal["full", "task"] = "task",
        held_out: tuple[int, ...] = (),
        symmetries: Symmetries | None = None,
        ids: Ids = "augmentation",
        palette: Palette = "task",
        redraw: bool = True,
    ):
        self.symmetries = symmetries
        self.puzzle_set = puzzle_set
        self.side = puzzle_set.board_side
        self.canvas = canvas
        self.tasks = np.repeat(np.arange(len(puzzle_set.tasks)), np.diff(puzzle_set.starts))
        self.row_keys, self.id_rows = find_rows(puzzle_set, ids)
        self.fixed = _find_fixed(puzzle_set) if redraw and draws_colours(ids) else None
        self.palette = find_palette(puzzle_set, palette)
        self.dihedrals, self.colours = decode_numbers(puzzle_set.augmentations)
        grids = []
        counts = []
        for number, (task, role) in enumerate(zip(puzzle_set.tasks, puzzle_set.roles, strict=True)):
            pairs = puzzle_set.training_pairs(number)
            tests = task.tests if role == "scored" else ()
            grids += [grid for pair in (*pairs, *tests) for grid in (pair.input, pair.output)]
            held_out_count = int(number in held_out and len(pairs) > 1)
            counts.append((len(pairs) - held_out_count, held_out_count, len(tests)))
        self.trained, self.held, _ = self.counts = np.array(counts, np.int64).T
        self.first_pair = np.cumsum([0, *self.counts.sum(axis=0)])
        sizes = [grid.shape if grid is not None else (0, 0) for grid in grids]
        self.sizes = np.array(sizes, np.int64).reshape(-1, 2, 2)
        if symmetries is not None:
            self._check_whole_boards(symmetries)
        self.pixels = np.concatenate([grid.ravel() for grid in grids if grid is not None])
        areas = self.sizes.prod(axis=2).ravel()
        self.starts = (np.cumsum(areas) - areas).reshape(-1, 2)

    def _check_whole_boards(self, symmetries: Symmetries) -> None:
        """Raise ValueError if a known grid does not fill the board."""
        small = ((self.sizes != self.side) & (self.sizes > 0)).any(axis=(1, 2))
        if small.any():
            owner = int(np.searchsorted(np.cumsum(self.counts.sum(axis=0)), small.argmax(), side="right"))
            raise ValueError(
                f"train.symmetry is {symmetries.name}, which moves whole boards, but a grid of task "
                f"{self.puzzle_set.tasks[owner].id} does not fill the board of side {self.side}: set model.board_side "
                "to the grids' side, or train.symmetry=none"
            )

    def sampler(
        self,
        seed: int,
        source_weights: Sequence[tuple[str, float]] = (),
        keep_rest: bool = False,
        visits: Visits = "tasks",
    ) -> Sampler:
        """Return a sampler of training examples; `source_weights` are (source, visits per epoch)."""
        weights = weigh_tasks(self.puzzle_set.sources, source_weights)
        return Sampler(self.puzzle_set.starts, self.trained, seed, weights, keep_rest, visits)

    def training_batch(self, sampler: Sampler, size: int, shift: bool = True, part: slice = WHOLE) -> Batch:
        """Render the rows `part` of the next `size` examples; the parts of all processes make up the global batch."""
        # Random draws are for the global batch, from (seed, step), so that they do not depend on the processes.
        step = sampler.step
        puzzles, pairs = sampler.next_batch(size)
        shifts = self._draw_shifts(puzzles, pairs, sampler.seed, step) if shift else np.zeros((size, 2), np.int64)
        colours = self._draw_colours(puzzles, sampler.seed, step)
        batch = self.render(puzzles[part], pairs[part], shifts[part], colours[part])
        if self.symmetries is None:
            return batch
        rng = np.random.Generator(np.random.Philox(key=[sampler.seed, step], counter=[0, 0, 0, 5]))
        numbers = self.symmetries.draw_numbers(rng, size)[part]
        rows = self.first_pair[self.tasks[puzzles[part]]] + pairs[part]
        return move_cells(batch, *self.symmetries.draw(sampler.seed, rows, numbers))

    def training_batches(self, batch_size: int, seed: int, shift: bool = True) -> Iterator[Batch]:
        """Yield endless batches by the published rule, a pure function of (seed, step)."""
        sampler = self.sampler(seed)
        while True:
            yield self.training_batch(sampler, batch_size, shift)

    def test_inputs(self, puzzles_per_task: int | None = None) -> tuple[Rows, Rows]:
        """Return (puzzles, pairs) of the test inputs of all scored tasks, under the first (default: all) puzzles."""
        return self._under_every_puzzle(self.trained + self.held, self.counts.sum(axis=0), puzzles_per_task)

    def held_out(self, puzzles_per_task: int | None = 1) -> tuple[Rows, Rows]:
        """Return (puzzles, pairs) of the held-out demonstrations, by default without augmentation."""
        return self._under_every_puzzle(self.trained, self.trained + self.held, puzzles_per_task)

    def _under_every_puzzle(self, begin: Rows, end: Rows, most: int | None) -> tuple[Rows, Rows]:
        """Return the pairs begin[task] to end[task] of each task under each of its first `most` puzzles."""
        examples = []
        for task, (start, stop) in enumerate(pairwise(self.puzzle_set.starts)):
            puzzles_of_task = range(start, stop if most is None else start + min(most, stop - start))
            examples += [(puzzle, pair) for pair in range(begin[task], end[task]) for puzzle in puzzles_of_task]
        puzzles, pairs = np.array(examples, np.int64).reshape(-1, 2).T
        return puzzles, pairs

    def canvas_sizes(self, puzzles: Rows) -> Rows:
        """Return rows and columns (len(puzzles), 2) of each puzzle's canvas after its transform."""
        if self.canvas == "full":
            return np.full((len(puzzles), 2), self.side)
        sizes = self.puzzle_set.canvases[self.tasks[puzzles]].astype(np.int64)
        return np.where(TRANSPOSES[self.dihedrals[puzzles], None], sizes[:, ::-1], sizes)

    def _draw_shifts(self, puzzles: Rows, pairs: Rows, seed: int, step: int) -> Rows:
        """Draw a shift (row, column) per example, uniformly over the places where both grids fit on the board.

        An example stays in the corner with probability 1 / pairs: the published set does not shift one pair per puzzle.
        """
        rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 1]))
        sizes = self.sizes[self.first_pair[self.tasks[puzzles]] + pairs].max(axis=1)
        sizes = np.where(TRANSPOSES[self.dihedrals[puzzles], None], sizes[:, ::-1], sizes)
        shifts = (rng.random((len(puzzles), 2)) * (self.side - sizes + 1)).astype(np.int64)
        stays = rng.random(len(puzzles)) * self.trained[self.tasks[puzzles]] < 1
        return np.where(stays[:, None], 0, shifts)

    def _draw_colours(self, puzzles: Rows, seed: int, step: int) -> NDArray[np.uint8]:
        """Return a permutation of the colours (n, 10) per example: that of its puzzle, or a new draw.

        A draw is a pure function of (seed, step, place in the batch) and of the colours that its task keeps.
        """
        if self.fixed is None:
            return self.colours[puzzles]
        rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 6]))
        return permute_free(self.fixed[self.tasks[puzzles]], rng.random((len(puzzles), COLOURS)))

    def render(
        self, puzzles: Rows, pairs: Rows, shifts: Rows | None = None, colours: NDArray[np.uint8] | None = None
    ) -> Batch:
        """Render the examples (puzzle, pair) as one batch, padded to the fixed width that fits its largest canvas.

        shifts: (row, column) of each example (n, 2), default: none
        colours: the new colour of each colour (n, 10), default: that of the puzzle's augmentation
        """
        colours = self.colours[puzzles] if colours is None else colours
        shifts = np.zeros((len(puzzles), 2), np.int64) if shifts is None else shifts
        corner = np.zeros_like(shifts)
        # A full board moves the grids within the canvas; a task canvas moves over the board together with its grids.
        origins, contents = (corner, shifts) if self.canvas == "full" else (shifts, corner)
        canvases = self.canvas_sizes(puzzles)
        areas = np.minimum(canvases, self.side - origins).prod(axis=1)
        width = fixed_width(areas.max(initial=0), self.side)
        tokens, labels, cells = np.empty((3, len(puzzles), width), np.int64)
        rows = self.first_pair[self.tasks[puzzles]] + pairs
        render_examples(
            self.pixels, self.starts[rows], self.sizes[rows], self.dihedrals[puzzles], colours,
            canvases, origins, contents, self.side, tokens, labels, cells,
        )  # fmt: skip
        symbols = np.ones((len(puzzles), VOCABULARY), bool)
        np.put_along_axis(symbols, COLOUR + colours.astype(np.int64), self.palette[self.tasks[puzzles]], axis=1)
        transforms = self.dihedrals[puzzles].astype(np.int64)
        arrays = tokens, labels, cells, self.id_rows[puzzles], transforms, symbols
        # The cells in use of a rendered example come first.
        return Batch(*map(torch.from_numpy, arrays)).with_counts(np.stack([areas, areas, *symbols.T]))

    def widths(self, puzzles: Rows) -> Rows:
        """Return the fixed width (len(puzzles),) that each puzzle's canvas is padded to."""
        return fixed_width(self.canvas_sizes(puzzles).prod(axis=1), self.side)
