"""The settings of workers in tests, by their names in wsd.toml. Pure."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from wsd.worker.contract.environment import WorkerEnv

CHANNELS = "channels"
"""The setting with the options of channels by pattern, as in the sections `[channels."pattern"]`."""

_FIELDS = {field.metadata["setting"]: field for field in fields(WorkerEnv) if field.metadata["setting"]}


def with_settings(env: WorkerEnv, settings: Mapping[str, Any]) -> WorkerEnv:
    """Return the environment of a worker with other settings, such as `{"security.jwt_secret": "..."}`.

    A list may be given as a list. `channels` takes a dict of options by pattern.

    Raises ValueError for a name that workers do not know, and for a value of another type.
    """
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name == CHANNELS:
            changes["channels"] = json.dumps(value)
        elif name in _FIELDS:
            changes[_FIELDS[name].name] = _converted(name, value, type(_FIELDS[name].default))
        elif of_section := [setting for setting in _FIELDS if setting.startswith(f"{name}.")]:
            raise ValueError(f'"{name}" is a section of settings: name each setting in full, such as "{of_section[0]}"')
        else:
            raise ValueError(f'there is no setting "{name}" for workers: its name is that in wsd.toml, "section.key"')
    return replace(env, **changes)


def _converted(name: str, value: object, kind: type) -> object:
    """Return a value of a setting as the environment of a worker holds it."""
    if kind is str and isinstance(value, list):
        return ",".join(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be of the type {kind.__name__}, got {value!r}")
    return value
