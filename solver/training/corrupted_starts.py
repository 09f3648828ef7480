"""Corrupted starts: in training, some slots start near the target instead of at the usual start.

From Denoising Recursion Models (arXiv 2604.18839, abstract; nothing else of it was at hand): the target is corrupted by
noise of varying magnitude, and the model learns to undo that over several recursive steps instead of in one. Ours are
the corruption itself, random colours in place of a share of the cells, that it is added to the start of the answer, in
the scale of embedded tokens, and that only a share of the slots start so.

Shape letters: B batch slots, C cells, S positions (ID slots, then cells), D hidden.
"""

from dataclasses import replace

import torch
from torch import Tensor

from solver.data.batches import Batch
from solver.data.tokens import COLOUR
from solver.model.model import RecursiveModel
from solver.model.noise import ON_STARTS, NoiseSource
from solver.model.packing import Padding
from solver.training.deep_supervision import Carry


@torch.no_grad()
def corrupt_starts(
    carry: Carry, fresh_B: Tensor, model: RecursiveModel, chance: NoiseSource, share: float, levels: tuple[float, float]
) -> Carry:
    """The slots, of which this share of the fresh ones start at a corrupted target.

    Their answer latent is its start plus the embedding of the label at each labelled cell (with symbols, at the label's
    symbol); of an example's labels a share from `levels` (low, high), drawn evenly, is replaced by colours. No gradient
    flows into the embedding from here.

    fresh_B: bool, which slots have just been filled; chance: of these slots, keyed by seed, step and slot.
    """
    config = model.config
    labels_BC = carry.batch.labels_BS
    drawn_B = chance.uniform(ON_STARTS, Padding((len(labels_BC), 1)), 1)[0, :, 0]
    hints_BCD = model.embed_tokens(corrupted_labels(carry.batch, chance, levels))
    told_BC1 = ((labels_BC != 0) & (fresh_B & (drawn_B < share))[:, None])[..., None]
    start_BSD = carry.latents[config.recursion.answer]
    slots_BND, cells_BCD = start_BSD.split((config.id_slots, labels_BC.shape[1]), dim=1)
    cells_BCD = torch.where(told_BC1, cells_BCD + hints_BCD.to(start_BSD.dtype), cells_BCD)
    answer_BSD = torch.cat((slots_BND, cells_BCD), dim=1)
    return replace(carry, latents={**carry.latents, config.recursion.answer: answer_BSD})


def corrupted_labels(batch: Batch, chance: NoiseSource, levels: tuple[float, float]) -> Tensor:
    """The labels (B, C), each replaced by one of its task's colours with the chance that its example has drawn."""
    labels_BC = batch.labels_BS
    colours_BK = batch.symbols_BV[:, COLOUR:]
    low, high = levels
    level_B1 = low + (high - low) * chance.uniform(ON_STARTS + 1, Padding((len(labels_BC), 1)), 1)[0]
    padding = Padding((labels_BC.shape[0], labels_BC.shape[1]))
    replaced_BC, colour_BC = padding.unpack(chance.uniform(ON_STARTS + 2, padding, 1)[..., 0].T).unbind(-1)
    used_first_BK = torch.argsort(colours_BK.to(torch.uint8), dim=1, descending=True, stable=True)
    random_BC = COLOUR + used_first_BK.gather(1, (colour_BC * colours_BK.sum(1, keepdim=True)).long())
    return torch.where((replaced_BC < level_B1) & (labels_BC != 0), random_BC, labels_BC)
