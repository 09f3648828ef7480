"""Checks that experiment trackers can be used, and flattens the config for them.

Trackers are TensorBoard, Weights & Biases and others that accelerate supports. They receive the metrics that are also
written to metrics.jsonl.
"""

import json
from collections.abc import Iterable

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from pipeline.config.run_config import ConfigError, RunConfig
from pipeline.config.setting_names import flatten


def check_trackers(names: Iterable[str]) -> None:
    """Raise a ConfigError for a tracker that accelerate does not know or that is not installed.

    Accelerate itself ignores such trackers silently.
    """
    available = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(
                f"train.trackers: accelerate knows no {name!r}", f"it knows {', '.join(LOGGER_TYPE_TO_CLASS)}"
            )
        if name not in available:
            raise ConfigError(
                f"train.trackers: {name} is not installed, or not in a version that accelerate supports",
                f"pip install {name}",
            )


def flat_values(config: RunConfig) -> dict[str, str | float]:
    """Return all settings by dotted name: numbers unchanged, all others as the text that `--set` accepts."""
    values = flatten(config.model_dump(mode="json"))
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in values.items()
    }
