"""The recursion: latents refined in turn by networks, as the config's equations say (`solver.model.equations`).

In: networks (functions of one tensor), the latents, the embedded input. Out: the new latents.

Every tensor has one row per position and D columns; the shape before that is the network's business.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from solver.model.equations import INPUT, RecursionConfig, Run

Network = Callable[[Tensor], Tensor]
Latents = dict[str, Tensor]
"""The state between supervision steps, by name: in TRM z_h, the answer so far, and z_l, the reasoning behind it."""

AddNoise = Callable[[str, Tensor], Tensor]
"""A latent's name and what its network gave; returns that with noise added."""

Settle = Callable[[Network, Tensor], Tensor]
"""An update as a function of the latent, and where it starts; returns where it settles."""

Watch = Callable[[str, Tensor, Tensor], None]
"""Is told of every update: which latent, what it was, what it is."""


def recurse(
    config: RecursionConfig,
    networks: Mapping[str, Network],
    latents: Latents,
    x: Tensor,
    h_cycles: int,
    l_cycles: int,
    watch: Watch | None = None,
    add_noise: AddNoise | None = None,
    settle: Settle | None = None,
) -> Latents:
    """One supervision step: h_cycles cycles of the equations, with gradient where the config says.

    add_noise: for equations with noise; settle: for those that go on until their latent settles.
    """
    latents = dict(latents)
    for run in config.schedule(h_cycles, l_cycles):
        update = run.update
        values = {**latents, INPUT: x}
        network = networks[update.network]
        with torch.set_grad_enabled(run.gradient and torch.is_grad_enabled()):
            if update.settles:
                assert settle is not None
                latents[update.latent] = settle(_as_function(run, network, values), values[update.latent])
                if watch is not None:
                    watch(update.latent, values[update.latent].detach(), latents[update.latent].detach())
            else:
                latents[update.latent] = _refine(run, network, values, watch, add_noise if update.noisy else None)
    return latents


def _as_function(run: Run, network: Network, values: Latents) -> Network:
    """One update, of the latent as it is then."""

    def update(latent: Tensor) -> Tensor:
        total = _add({**values, run.update.latent: latent}, list(run.update.reads))
        assert total is not None
        return network(total)

    return update


def _refine(run: Run, network: Network, values: Latents, watch: Watch | None, add_noise: AddNoise | None) -> Tensor:
    """One latent, updated as often as the run says."""
    latent = run.update.latent
    (first, *others) = run.update.reads
    context = _add(values, others)
    for _ in range(run.times):
        old = values[latent]
        values[latent] = network(values[first] if context is None else values[first] + context)
        if add_noise is not None:
            values[latent] = add_noise(latent, values[latent])
        if latent in others:
            context = _add(values, others)
        if watch is not None:
            watch(latent, old.detach(), values[latent].detach())
    return values[latent]


def _add(values: Latents, names: list[str]) -> Tensor | None:
    """Their sum from left to right; None of none."""
    total = None
    for name in names:
        total = values[name] if total is None else total + values[name]
    return total
