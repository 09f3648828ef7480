"""Places: learnt vectors that tell a cell where it stands, which rotary angles between cells do not.

In: tokens and cell numbers of a batch. Out: a vector for each cell, the sum of those of its row and its column, or with
"edges" also of how many rows and columns it is before the last ones of the input grid, which turning, mirroring and
filling up need. Learnt vectors of positions are as in ViT (2010.11929, section 3.1, one for each patch); one for each
row and column, and counting from the grid's far edges, are ours.

Shape letters: B examples, C cells, D hidden.
"""

import torch
from torch import Tensor, nn

from solver.layers import truncated_normal_
from solver.settings import ModelConfig
from solver.tokens import COLOUR


class PlaceEmbedding(nn.Module):
    """Vectors of size 1 a value at the start; those counted from the far edges are (2 side - 1) each.

    Where the output is larger than the input, its cells past the last row or column count below 0.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.side = config.board_side
        self.from_edges = config.places == "edges"
        sizes = {"row": self.side, "column": self.side}
        if self.from_edges:
            sizes |= {"rows_left": 2 * self.side - 1, "columns_left": 2 * self.side - 1}
        vectors = {
            name: nn.Parameter(truncated_normal_(torch.empty(n, config.hidden), 1.0)) for name, n in sizes.items()
        }
        self.vectors = nn.ParameterDict(vectors)

    def forward(self, tokens_BC: Tensor, cells_BC: Tensor) -> Tensor:
        """(B, C, D); what it is where no cell of the board is (cell number -1) means nothing."""
        rows_BC = cells_BC.clamp(min=0) // self.side
        columns_BC = cells_BC.clamp(min=0) % self.side
        placed = self.vectors["row"][rows_BC] + self.vectors["column"][columns_BC]
        if not self.from_edges:
            return placed
        held_BC = (tokens_BC >= COLOUR) & (cells_BC >= 0)
        for name, lines_BC in (("rows_left", rows_BC), ("columns_left", columns_BC)):
            last_B1 = torch.where(held_BC, lines_BC, 0).amax(1, keepdim=True)
            placed = placed + self.vectors[name][last_B1 - lines_BC + self.side - 1]
        return placed
