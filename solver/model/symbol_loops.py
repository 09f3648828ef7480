"""The loops of `solver.model.symbol_kernels`, compiled, on contiguous NumPy arrays in float32 or float64; results go to
the last.

One thread. Sums run along a row in an order that the compiler chooses, the same for every row of a width.

lanes: a tuple whose length, half a head's size, is thereby known to the compiler.
"""

import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""What the compiler may do to sums: reorder them, so that it can use vectors."""


@njit(cache=True, fastmath=FAST)
def gather(x, rows, blocks, cos, sin, lanes, laid):
    """Rows (T, N, H, K) to blocks (N, sequences x heads, length, K); the first two of N turned if cos has rows."""
    _, parts, heads, size = x.shape
    passed = 0
    for block in range(len(blocks)):
        count, length = blocks[block]
        base = passed * parts * heads * size
        for sequence in range(count):
            for place in range(length):
                row = rows[passed]
                passed += 1
                for part in range(parts):
                    for head in range(heads):
                        matrix = (part * count + sequence) * heads + head
                        start = base + (matrix * length + place) * size
                        own = x[row, part, head]
                        other = laid[start : start + size]
                        if part < 2 and len(cos) > 0:
                            _turn(own, cos[row], sin[row], lanes, other)
                        else:
                            _copy(own, lanes, other)


@njit(cache=True, fastmath=FAST)
def scatter(laid, rows, blocks, cos, sin, lanes, x):
    """Blocks as `gather` makes them to rows."""
    _, parts, heads, size = x.shape
    passed = 0
    for block in range(len(blocks)):
        count, length = blocks[block]
        base = passed * parts * heads * size
        for sequence in range(count):
            for place in range(length):
                row = rows[passed]
                passed += 1
                for part in range(parts):
                    for head in range(heads):
                        matrix = (part * count + sequence) * heads + head
                        start = base + (matrix * length + place) * size
                        own = x[row, part, head]
                        other = laid[start : start + size]
                        if part < 2 and len(cos) > 0:
                            _turn(other, cos[row], sin[row], lanes, own)
                        else:
                            _copy(other, lanes, own)


@njit(inline="always")
def _turn(source, cos, sin, lanes, target):
    half = len(lanes)
    for place in range(len(lanes)):
        first = source[place]
        second = source[half + place]
        target[place] = first * cos[place] + second * sin[place]
        target[half + place] = second * cos[half + place] + first * sin[half + place]


@njit(inline="always")
def _copy(source, lanes, target):
    half = len(lanes)
    for place in range(len(lanes)):
        first = source[place]
        second = source[half + place]
        target[place] = first
        target[half + place] = second


@njit(cache=True, fastmath=FAST)
def add_norm(x, y, epsilon, out, scale):
    """Sum (T, D) over its root mean square, and that one's inverse, (T,)."""
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


@njit(cache=True, fastmath=FAST)
def add_norm_back(gradient, out, scale, given):
    """The gradient of each of the two that are added."""
    columns = out.shape[1]
    for row in range(len(out)):
        along = out[row, 0] * 0
        for column in range(columns):
            along += gradient[row, column] * out[row, column]
        along /= columns
        factor = scale[row]
        for column in range(columns):
            given[row, column] = factor * (gradient[row, column] - along * out[row, column])


@njit(cache=True, fastmath=FAST)
def gate(gate_up, opened, out):
    """opened: exp(-gate) comes in, sigmoid(gate) goes out."""
    inner = opened.shape[1]
    one = opened.dtype.type(1)
    for row in range(len(opened)):
        for column in range(inner):
            share = one / (one + opened[row, column])
            opened[row, column] = share
            out[row, column] = gate_up[row, column] * share * gate_up[row, inner + column]


@njit(cache=True, fastmath=FAST)
def gate_back(gradient, gate_up, opened, given):
    """opened: sigmoid(gate)."""
    inner = opened.shape[1]
    one = opened.dtype.type(1)
    for row in range(len(opened)):
        for column in range(inner):
            value = gate_up[row, column]
            share = opened[row, column]
            passed = gradient[row, column] * share
            given[row, column] = passed * gate_up[row, inner + column] * (one + value * (one - share))
            given[row, inner + column] = passed * value
