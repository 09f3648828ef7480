"""Draws the operations of a block with a symbol axis as SVG.

The drawing has three lattices, each with a column for every cell and a row for every symbol. A square is a vector; it
is filled where the cell contains the symbol. Symbols outside the palette have no squares. A line joins vectors that
attend to each other.
"""

from html import escape

from pipeline.experiments.model_drawings import STYLE
from pipeline.experiments.svg_frame import make_svg
from solver.model.config import ModelConfig

HELD = (2, 5, 2, 4, 5, 1)
"""The symbol in each drawn cell, as an index of SYMBOLS."""
SYMBOLS = ("empty", "end", "colour 0", "colour 1", "colour 2", "colour 3", "colour 4")
PALETTE = (0, 1, 2, 4, 5)
STEP = 24
SIDE = 16
LEFT = 76
TOP = 62
GAP = 60
PANEL = STEP * len(HELD) + GAP
FOOT = TOP + STEP * len(SYMBOLS)


def draw_symbol_block(config: ModelConfig) -> str:
    """Return an SVG drawing of a block of a model with a symbol axis.

    Its panels are attention over cells, attention over symbols, and the SwiGLU on each vector.
    """
    heads = config.symbol_heads or config.heads
    panels = (
        ("1. attention over cells", f"each symbol by itself, {config.heads} heads", _across()),
        ("2. attention over symbols", f"each cell by itself, {heads} heads", _down()),
        ("3. SwiGLU", "each vector by itself", ""),
    )
    title = "A block with a symbol axis"
    words = "Filled: the cell holds this symbol. Colours 1 and 4 are not in the task's palette: they have no vectors."
    grids = "\n".join(_panel(number, *panel) for number, panel in enumerate(panels))
    labels = "\n".join(f'<text class="soft" x="8" y="{_y(row) + 4}">{name}</text>' for row, name in enumerate(SYMBOLS))
    width = LEFT + PANEL * len(panels)
    height = FOOT + 54
    caption = f'<text class="soft" x="8" y="{height - 12}">{escape(words)}</text>'
    return make_svg(width, height, title, f"{title}. {words}", STYLE, [labels, grids, caption])


def _x(cell: float) -> float:
    return LEFT + STEP * (cell + 0.5)


def _y(row: float) -> float:
    return TOP + STEP * (row + 0.5)


def _across() -> str:
    """Draw a horizontal line through the cells for each symbol of the palette."""
    return "".join(f'<path d="M{_x(0)} {_y(row)}H{_x(len(HELD) - 1)}"/>' for row in PALETTE)


def _down() -> str:
    """Draw a vertical line through the palette's symbols for each cell."""
    return "".join(f'<path d="M{_x(cell)} {_y(PALETTE[0])}V{_y(PALETTE[-1])}"/>' for cell in range(len(HELD)))


def _panel(number: int, title: str, below: str, lines: str) -> str:
    """Draw lattice `number` from the left, with a title, a caption and lines."""
    # Lines come before squares in the SVG, so that the squares are drawn on top of them.
    squares = "".join(
        f'<rect{" class=" + chr(34) + "learnt" + chr(34) if HELD[cell] == row else ""} x="{_x(cell) - SIDE / 2}" '
        f'y="{_y(row) - SIDE / 2}" width="{SIDE}" height="{SIDE}" rx="3"/>'
        for row in PALETTE
        for cell in range(len(HELD))
    )
    return (
        f'<g transform="translate({PANEL * number} 0)"><text x="{LEFT}" y="24">{title}</text>'
        f'<text class="soft" x="{LEFT}" y="44">{below}</text>{lines}{squares}'
        f'<text class="soft" x="{LEFT}" y="{FOOT + 18}">{len(HELD)} cells</text></g>'
    )
