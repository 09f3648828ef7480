"""Corrupted starts: in training, some slots start from a corrupted target instead of the initial latents.

This follows Denoising Recursion Models (arXiv 2604.18839, abstract only): the target is corrupted by noise of varying
magnitude, and the model learns to undo the noise over several recursive steps instead of in one. Three choices are not
taken from the paper. The corruption replaces a share of the cells by random colours. The corrupted target is added to
the initial answer, scaled like embedded tokens. Only a share of the slots starts this way.

Shape letters: B batch slots, C cells, R positions in use of all slots, D hidden.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from solver.data.batch import Batch
from solver.data.tokens import COLOUR
from solver.model.model import RecursiveModel
from solver.model.noise import ON_STARTS, NoiseSource
from solver.model.packing import Padding
from solver.model.positions import padding_of
from solver.training.deep_supervision import Carry


@torch.no_grad()
def corrupt_starts(
    carry: Carry, fresh_B: Tensor, model: RecursiveModel, chance: NoiseSource, share: float, levels: tuple[float, float]
) -> Carry:
    """Return the slots, of which a share of the newly filled ones starts from a corrupted target.

    Their answer latent is its initial value plus the embedding of the label at each labelled cell (with a symbol axis,
    at the label's symbol). A share of an example's labels is first replaced by random colours. No gradient flows from
    here into the embedding.

    Args:
        carry: the slots.
        fresh_B: bool, which slots have just been filled.
        model: the model, whose token embedding is used.
        chance: the noise source of these slots, keyed by seed, step and slot.
        share: probability that a newly filled slot starts from a corrupted target.
        levels: (low, high), the range that an example's share of replaced labels is drawn from, uniformly.
    """
    config = model.config
    labels_BC = carry.batch.labels_BS
    uniform_B = chance.uniform(ON_STARTS, Padding((len(labels_BC), 1)), 1)[0, :, 0]
    hinted_BC = (labels_BC != 0) & (fresh_B & (uniform_B < share))[:, None]
    padding = padding_of(config, carry.batch)

    def at_rows(cells_BC: Tensor) -> Tensor:
        return padding.pack(F.pad(cells_BC, (config.id_slots, 0)))

    start_RD = carry.latents[config.recursion.answer]
    hints_RD = model.embed_tokens(at_rows(corrupted_labels(carry.batch, chance, levels))[None])[0]
    answer_RD = torch.where(at_rows(hinted_BC)[:, None], start_RD + hints_RD.to(start_RD.dtype), start_RD)
    return replace(carry, latents={**carry.latents, config.recursion.answer: answer_RD})


def corrupted_labels(batch: Batch, chance: NoiseSource, levels: tuple[float, float]) -> Tensor:
    """Return the labels (B, C), some replaced by random colours of their task; each example draws its probability."""
    labels_BC = batch.labels_BS
    colours_BK = batch.symbols_BV[:, COLOUR:]
    low, high = levels
    level_B1 = low + (high - low) * chance.uniform(ON_STARTS + 1, Padding((len(labels_BC), 1)), 1)[0]
    padding = Padding((labels_BC.shape[0], labels_BC.shape[1]))
    replaced_BC, colour_BC = padding.unpack(chance.uniform(ON_STARTS + 2, padding, 1)[..., 0].T).unbind(-1)
    # Listing the task's colours first turns a uniform number into a uniform choice among them.
    used_first_BK = torch.argsort(colours_BK.to(torch.uint8), dim=1, descending=True, stable=True)
    random_BC = COLOUR + used_first_BK.gather(1, (colour_BC * colours_BK.sum(1, keepdim=True)).long())
    return torch.where((replaced_BC < level_B1) & (labels_BC != 0), random_BC, labels_BC)
