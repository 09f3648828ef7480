"""Summation of gradients over processes, and the check that losses and gradients are finite."""

import torch

from solver.model.model import RecursiveModel
from solver.training.loss_scale import LossScale
from solver.training.micro_batches import Chunk
from solver.training.process_group import ProcessGroup


def share_gradients(
    model: RecursiveModel, chunk: Chunk, processes: ProcessGroup, scale: LossScale | None
) -> tuple[bool, bool]:
    """Sum the model's gradients over all processes in one collective operation, and undo the loss scale in place.

    The gradients of the ID vectors in `chunk` are unscaled too, but not summed.

    Returns:
        Whether the losses of all processes are finite, and whether all gradients are.
    """
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # Every process must decide alike whether to update. Times 0, a finite value is 0 and any other is NaN, which
    # survives the sum, so all processes read the same result without a second collective operation.
    health = torch.stack([chunk.losses.total * 0, (chunk.id_gradients_BI * 0).sum()]).to(gradients[0])
    if processes.count > 1:
        flat = processes.sum_(torch.cat([*(gradient.flatten() for gradient in gradients), health]))
        *pieces, health = flat.split([*(gradient.numel() for gradient in gradients), 2])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        gradients = pieces
    if scale is not None:
        for gradient in (*gradients, chunk.id_gradients_BI):
            gradient.div_(scale.value)
    norm = torch.nn.utils.get_total_norm(gradients)
    # Read together: every reading makes the processor wait for a GPU.
    loss, ids, all_finite = torch.cat((health.isfinite(), norm.isfinite()[None])).tolist()
    return loss, ids and all_finite
