"""Names of a recursive model's submodules and buffers, which are also the keys of its checkpoints."""


def module_name(network: str) -> str:
    """Return the submodule of a network's weights: "network" for f, "network_l" for f_l."""
    return "network" + network.removeprefix("f")


def guidance_name(latent: str) -> str:
    """Return the submodule of the prior and posterior of a latent's noise: "guidance_h" for z_h."""
    return "guidance" + latent.removeprefix("z")


def start_name(latent: str) -> str:
    """Return the buffer of a latent's starting vector: "h_start" for z_h, "start" for z."""
    return f"{latent[2:]}_start".lstrip("_")
