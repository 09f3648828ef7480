"""Compiled loops of `solver.model.symbol_kernels`, on contiguous NumPy arrays in float32 or float64.

Results are written to the last arguments. The loops run on one thread. The compiler chooses the order of a sum along a
row; it is the same for all rows of equal width.

lanes: a tuple of half a head's size; its length is part of its type, so the compiler knows it
"""

import numpy as np

from augment.kernels import kernel

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Floating-point transformations that the compiler may apply: reordering sums lets it use vector instructions."""


@kernel(fastmath=FAST)
def gather(x, rows, blocks, cos, sin, lanes, laid):
    """Copy rows (T, N, H, K) to blocks (N, sequences x heads, length, K).

    If cos has rows, the first two of N, queries and keys, are rotated.
    """
    _, parts, heads, size = x.shape
    index = 0
    for block in range(len(blocks)):
        count, length = blocks[block]
        base = index * parts * heads * size
        for sequence in range(count):
            for place in range(length):
                row = rows[index]
                index += 1
                for part in range(parts):
                    for head in range(heads):
                        matrix = (part * count + sequence) * heads + head
                        start = base + (matrix * length + place) * size
                        row_vector = x[row, part, head]
                        block_vector = laid[start : start + size]
                        if part < 2 and len(cos) > 0:
                            _turn(row_vector, cos[row], sin[row], lanes, block_vector)
                        else:
                            _copy(row_vector, lanes, block_vector)


@kernel(fastmath=FAST)
def scatter(laid, rows, blocks, cos, sin, lanes, x):
    """Copy blocks in the layout of `gather` back to rows, rotated in the same way."""
    _, parts, heads, size = x.shape
    index = 0
    for block in range(len(blocks)):
        count, length = blocks[block]
        base = index * parts * heads * size
        for sequence in range(count):
            for place in range(length):
                row = rows[index]
                index += 1
                for part in range(parts):
                    for head in range(heads):
                        matrix = (part * count + sequence) * heads + head
                        start = base + (matrix * length + place) * size
                        row_vector = x[row, part, head]
                        block_vector = laid[start : start + size]
                        if part < 2 and len(cos) > 0:
                            _turn(block_vector, cos[row], sin[row], lanes, row_vector)
                        else:
                            _copy(block_vector, lanes, row_vector)


@kernel(inline="always")
def _turn(source, cos, sin, lanes, target):
    half = len(lanes)
    for place in range(len(lanes)):
        first = source[place]
        second = source[half + place]
        target[place] = first * cos[place] + second * sin[place]
        target[half + place] = second * cos[half + place] + first * sin[half + place]


@kernel(inline="always")
def _copy(source, lanes, target):
    half = len(lanes)
    for place in range(len(lanes)):
        first = source[place]
        second = source[half + place]
        target[place] = first
        target[half + place] = second


@kernel(fastmath=FAST)
def add_norm(x, y, epsilon, out, scale):
    """Write the sum x + y divided by its root mean square (T, D), and the inverse root mean square (T,)."""
    columns = x.shape[1]
    for row in range(len(x)):
        total = x[row, 0] * 0
        for column in range(columns):
            value = x[row, column] + y[row, column]
            out[row, column] = value
            total += value * value
        scale[row] = 1 / np.sqrt(total / columns + epsilon)
        factor = scale[row]
        for column in range(columns):
            out[row, column] *= factor


@kernel(fastmath=FAST)
def add_norm_back(gradient, out, scale, given):
    """Write the gradient of `add_norm`, which is the same for both summands."""
    columns = out.shape[1]
    for row in range(len(out)):
        along = out[row, 0] * 0
        for column in range(columns):
            along += gradient[row, column] * out[row, column]
        along /= columns
        factor = scale[row]
        for column in range(columns):
            given[row, column] = factor * (gradient[row, column] - along * out[row, column])


@kernel(fastmath=FAST)
def gate(gate_up, opened, out):
    """Write silu(gate) * up; `opened` holds exp(-gate) on input and sigmoid(gate) on output."""
    inner = opened.shape[1]
    one = opened.dtype.type(1)
    for row in range(len(opened)):
        for column in range(inner):
            share = one / (one + opened[row, column])
            opened[row, column] = share
            out[row, column] = gate_up[row, column] * share * gate_up[row, inner + column]


@kernel(fastmath=FAST)
def gate_back(gradient, gate_up, opened, given):
    """Write the gradient of `gate` with respect to `gate_up`; `opened` is sigmoid(gate)."""
    inner = opened.shape[1]
    one = opened.dtype.type(1)
    for row in range(len(opened)):
        for column in range(inner):
            value = gate_up[row, column]
            share = opened[row, column]
            scaled = gradient[row, column] * share
            given[row, column] = scaled * gate_up[row, inner + column] * (one + value * (one - share))
            given[row, inner + column] = scaled * value
