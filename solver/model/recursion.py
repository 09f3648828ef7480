"""The recursion: networks update the latents in the order of the config's equations (`solver.model.equations`).

`recurse` takes the networks (functions of one tensor), the latents and the embedded input, and returns the new latents.
All tensors have one shape, usually (T, D); only the networks depend on what the axes mean.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from solver.model.equations import INPUT, RecursionConfig, Run

Network = Callable[[Tensor], Tensor]
Latents = dict[str, Tensor]
"""The state between supervision steps, by name: in TRM z_h, the current answer, and z_l, the reasoning behind it."""

AddNoise = Callable[[str, Tensor], Tensor]
"""Takes a latent's name and the output of its network; returns the output with noise added."""

Settle = Callable[[Network, Tensor], Tensor]
"""Takes an update as a function of the latent, and the starting latent; returns the fixed point."""

Watch = Callable[[str, Tensor, Tensor], None]
"""Is called after every update with the latent's name, its old value and its new value."""


def recurse(
    config: RecursionConfig,
    networks: Mapping[str, Network],
    latents: Latents,
    x: Tensor,
    h_cycles: int,
    l_cycles: int,
    watch: Watch | None = None,
    add_noise: AddNoise | None = None,
    solve_fixed_point: Settle | None = None,
) -> Latents:
    """Run one supervision step: h_cycles cycles of the equations, with gradient where the config asks for it.

    Args:
        config: the equations and which updates carry gradient.
        networks: the networks by name.
        latents: the latents by name; not changed.
        x: the embedded input.
        h_cycles: how often all equations are run.
        l_cycles: how often an equation marked "* l_cycles" is repeated in each of these cycles.
        watch: called after every update; for an equation with a fixed point once, after it.
        add_noise: adds the noise of equations with "+ e"; None leaves it out.
        solve_fixed_point: solves equations with "* fixed_point".

    Returns:
        The new latents by name.
    """
    latents = dict(latents)
    for run in config.schedule(h_cycles, l_cycles):
        update = run.update
        values = {**latents, INPUT: x}
        network = networks[update.network]
        with torch.set_grad_enabled(run.gradient and torch.is_grad_enabled()):
            if update.settles:
                assert solve_fixed_point is not None
                latents[update.latent] = solve_fixed_point(_as_function(run, network, values), values[update.latent])
                if watch is not None:
                    watch(update.latent, values[update.latent].detach(), latents[update.latent].detach())
            else:
                latents[update.latent] = _refine(run, network, values, watch, add_noise if update.noisy else None)
    return latents


def _as_function(run: Run, network: Network, values: Latents) -> Network:
    """Return one update as a function of its latent, with all other values held constant."""

    def update(latent: Tensor) -> Tensor:
        total = _add({**values, run.update.latent: latent}, list(run.update.reads))
        assert total is not None
        return network(total)

    return update


def _refine(run: Run, network: Network, values: Latents, watch: Watch | None, add_noise: AddNoise | None) -> Tensor:
    """Return the latent after `run.times` updates."""
    latent = run.update.latent
    (first, *others) = run.update.reads
    # The sum of all terms but the first is constant over the repeats, unless the latent itself is among them.
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
    """Sum the named values from left to right; None if there are no names."""
    total = None
    for name in names:
        total = values[name] if total is None else total + values[name]
    return total
