"""Trackers: where accelerate sends the metrics besides metrics.jsonl (TensorBoard, Weights & Biases ...).

In: their names, and the config. Out: a check that each of them will work, and the config as one flat table.
"""

import json
from collections.abc import Iterable

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.config.setting_names import flatten


def check_trackers(names: Iterable[str]) -> None:
    """ConfigError for a tracker that accelerate does not know, or is not installed: it would be left out silently."""
    available = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(
                f"train.trackers: accelerate knows no {name!r}", f"it knows {', '.join(LOGGER_TYPE_TO_CLASS)}"
            )
        if name not in available:
            raise ConfigError(
                f"train.trackers: {name} is not installed, or not in a version accelerate can use: pip install {name}"
            )


def flat_values(config: RunConfig) -> dict[str, str | float]:
    """Every setting by dotted name: numbers as they are, anything else as the text that `--set` reads."""
    values = flatten(config.model_dump(mode="json"))
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in values.items()
    }
