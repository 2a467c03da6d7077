"""The settings of wsd.toml that a worker or the relay gets in its environment."""

from dataclasses import fields
from typing import Any

from wsd.supervisor.config.settings import Config


def settings_for(record: type[Any], config: Config) -> dict[str, Any]:
    """Return the values of those fields of WorkerEnv or RelayEnv that name a setting. Lists are joined by commas."""
    copied = {}
    for field in fields(record):
        if setting := field.metadata["setting"]:
            section, key = setting.split(".")
            value = getattr(getattr(config, section), key)
            copied[field.name] = ",".join(value) if isinstance(value, tuple) else value
    return copied
