"""Reads the settings that a published checkpoint has in a file beside it, all_config.yaml, or in its own dictionary.

The weights do not say how many cycles and heads a model has; these files do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from augment.errors import UserError
from pipeline.checkpoints.published_file import refuse_stand_in

FILE = "all_config.yaml"
LARGEST = 2**20  # bytes; the published files have about 1,000
FIX = "fetch it again, or move it away and give the settings with --set"
NAMES = {
    "H_cycles": "h_cycles",
    "L_cycles": "l_cycles",
    "num_heads": "heads",
    "halt_max_steps": "max_steps",
    "puzzle_emb_len": "id_slots",
    "hidden_size": "hidden",
    "L_layers": "layers",
}
"""Published name -> our name, of whole numbers above 0."""
MOST = 10_000


def read_settings(weights: Path, content: Any) -> tuple[dict[str, int], str]:
    """Return the settings under our names, and where they are from ("" if there are none).

    Args:
        weights: the file of weights; all_config.yaml lies beside it.
        content: what was read from that file, which may have "hyper_parameters" or "config".

    Raises:
        UserError: naming the file and the setting whose value is impossible.
    """
    file = weights.parent / FILE
    if file.is_file():
        return _translate(_find_model(_read_yaml(file)), file), str(file)
    if isinstance(content, Mapping):
        for key in ("hyper_parameters", "config"):
            if isinstance(content.get(key), Mapping) and (settings := _translate(_find_model(content[key]), weights)):
                return settings, f"'{key}' in {weights}"
    return {}, ""


def _read_yaml(file: Path) -> Mapping[Any, Any]:
    refuse_stand_in(file)
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file} has more than {LARGEST:,} bytes, too many for a file of settings", FIX)
        value = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file} cannot be opened ({error.strerror})", FIX) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file} is not valid YAML", FIX) from error
    except ValueError as error:  # such as a date that does not exist
        raise error if isinstance(error, UserError) else UserError(f"{file} is not valid YAML", FIX) from error
    if not isinstance(value, Mapping):
        raise UserError(f"{file} has no settings by name", FIX)
    return value


def _find_model(settings: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the part on the model: that under "arch", which may itself be under "config"; otherwise the whole."""
    for key in ("config", "arch"):
        inner = settings.get(key)
        settings = inner if isinstance(inner, Mapping) else settings
    return settings


def _translate(settings: Mapping[Any, Any], file: Path) -> dict[str, int]:
    settings = _with_slots(settings)
    translated = {}
    for name, ours in NAMES.items():
        value = settings.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST:
            raise UserError(f"{file}: {name} is not a whole number from 1 to {MOST:,}", FIX)
        translated[ours] = value
    return translated


def _with_slots(settings: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Replace a puzzle_emb_len of 0, which stands for as many slots as puzzle_emb_ndim values fill."""
    if settings.get("puzzle_emb_len") != 0:
        return settings
    size = settings.get("puzzle_emb_ndim")
    hidden = settings.get("hidden_size")
    if not isinstance(size, int) or not isinstance(hidden, int) or size <= 0 or hidden <= 0:
        return {**settings, "puzzle_emb_len": None}
    return {**settings, "puzzle_emb_len": -(-size // hidden)}  # rounded up
