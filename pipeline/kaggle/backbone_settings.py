"""Take over the settings of the backbone that a run starts from."""

from pathlib import Path

from augment import DIHEDRALS
from augment.storage import unseal
from pipeline.checkpoints.checkpoint_schema import FORMAT, CheckpointFile
from pipeline.config.run_config import RunConfig, build_config, override
from pipeline.config.setting_names import flatten

WITH_NETWORK = {"puzzles.ids", "puzzles.fixed_colours", "train.loss"}
"""Settings that are taken over besides those of the network."""


def take_backbone_settings(config: RunConfig, backbone: Path | None) -> tuple[RunConfig, Path | None, list[str]]:
    """Take over the network of a backbone, the loss it is trained by, and which puzzles share an embedding.

    With a symbol axis, which treats all colours alike, the puzzles of a task are its 8 transforms.

    Returns:
        (config, backbone, incidents): without a usable backbone, the config as it was, None, and the reason if one was
        given.
    """
    if backbone is None:
        return config, None, []
    try:
        header = unseal(backbone / "checkpoint.json", CheckpointFile, "checkpoint", FORMAT, "attach it again")
        settings = flatten(build_config(header.config).model_dump())
        changes = {name: value for name, value in settings.items() if name.startswith("model.") or name in WITH_NETWORK}
        if settings["model.symbols"]:
            changes["puzzles.augmentations"] = DIHEDRALS - 1
        return override(config, changes), backbone, []
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        return config, None, [f"the backbone cannot be used, and training begins from scratch: {error}"]
