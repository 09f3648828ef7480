"""The settings that a run takes over from the backbone it starts from."""

from pathlib import Path

from augment import DIHEDRALS
from augment.storage import read_json, unseal
from pipeline.config.run_config import RunConfig, build_config, override
from pipeline.config.setting_names import flatten

WITH_NETWORK = {"puzzles.ids", "puzzles.fixed_colours", "train.loss"}
"""Settings that a backbone brings besides those of its network."""


def take_backbone_settings(config: RunConfig, backbone: Path | None) -> tuple[RunConfig, Path | None, list[str]]:
    """The config with the backbone's network, and the backbone; without it, saying why, where it cannot be used.

    With the network come the loss that it is trained by and which puzzles share an ID row; with a symbol axis, to which
    all colours are alike, puzzles are the 8 transforms.
    """
    if backbone is None:
        return config, None, []
    try:
        about = read_json(backbone / "checkpoint.json")
        unseal(backbone / "checkpoint.json", "checkpoint", about["format"], "attach it again")
        theirs = flatten(build_config(about["config"]).model_dump())
        taken = {name: value for name, value in theirs.items() if name.startswith("model.") or name in WITH_NETWORK}
        if theirs["model.symbols"]:
            taken["puzzles.augmentations"] = DIHEDRALS - 1
        return override(config, taken), backbone, []
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        return config, None, [f"the backbone cannot be used, and training begins from scratch: {error}"]
