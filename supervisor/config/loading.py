"""Load the configuration: merge its layers, convert the values and check them as a whole.

The command line overrides the environment, which overrides wsd.toml, which overrides the defaults. The source of every
value is kept, so that errors and `wsd config` can name it.
"""

import contextlib
import functools
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from wsd.supervisor.config.environment import read_environ
from wsd.supervisor.config.keys import (
    RULE_PREFIX,
    SECTIONS,
    Key,
    api_key_of,
    channels_section,
    is_secret,
    kind_of,
    pattern_of,
)
from wsd.supervisor.config.layers import Layer, Setting
from wsd.supervisor.config.paths import absolute
from wsd.supervisor.config.rules import check_rules
from wsd.supervisor.config.settings import ApiKeyConfig, ChannelConfig, Config, Section
from wsd.supervisor.config.toml_file import read_toml
from wsd.supervisor.config.wording import brief, describe_type
from wsd.supervisor.errors import ConfigError

CONFIG_FILE = "wsd.toml"


@dataclass(frozen=True)
class Loaded:
    """A configuration, and how it was loaded."""

    config: Config
    sources: Mapping[Key, str]  # the source of each value that is not a default
    warnings: tuple[str, ...]
    directory: Path  # the one of wsd.toml, or the current one; the application is imported from it
    here: Path  # the current directory, in which workers start
    again: Callable[[], "Loaded"]  # load the same layers as they are now; raises ConfigError

    @property
    def node_id(self) -> str:
        return self.config.cluster.node_id or socket.gethostname()

    @property
    def state_dir(self) -> Path:
        # Resolved, since a running cluster must not move when a symbolic link in the path is changed.
        return (self.here / (self.config.cluster.state_dir or self.directory / ".wsd")).resolve()


def load(
    options: Mapping[Key, Setting], environ: Mapping[str, str], config_file: str | None, here: Path | None = None
) -> Loaded:
    """Load the configuration from all layers, of which `options` is the command line.

    `config_file` None means the file that WSD_CONFIG names, or else wsd.toml in the current directory, if there is one.
    `here` is the current directory, for callers that know its name already.

    Raises ConfigError.
    """
    named = config_file or environ.get("WSD_CONFIG")
    here = here or current_directory(environ, Path(named).parent if named else None)
    name = named or CONFIG_FILE
    path = here / name
    toml_layer: Layer = {}
    if named or os.path.lexists(path):  # a link that leads nowhere is a mistake, not a missing file
        toml_layer = read_toml(path, name)
    env_layer, warnings = read_environ(environ)
    settings = {**toml_layer, **env_layer, **options}
    for key, setting in settings.items():
        if isinstance(setting.value, str):  # paths of wsd.toml are absolute already
            settings[key] = replace(setting, value=absolute(key, setting.value, here))
    settings = _with_rules_for_all(settings)
    return Loaded(
        build(settings),
        {key: setting.source for key, setting in settings.items()},
        warnings,
        path.parent if toml_layer or named else here,
        here,
        again=functools.partial(load, options, environ, config_file, here),
    )


def _with_rules_for_all(settings: Mapping[Key, Setting]) -> dict[Key, Setting]:
    """Let [channels."*"] say who may do what in the channels of the other sections, as far as these do not say it.

    Otherwise a section that only sets the size of a history would open its channels.
    """
    for_all = {key: value for (section, key), value in settings.items() if section == channels_section("*")}
    rules = {key: value for key, value in for_all.items() if key.startswith(RULE_PREFIX)}
    sections = dict.fromkeys(section for section, _ in settings if pattern_of(section) is not None)  # in their order
    return {**{(section, key): value for section in sections for key, value in rules.items()}, **settings}


def current_directory(environ: Mapping[str, str], other: Path | None = None) -> Path:
    """Return the current directory by the name that people use, with its symbolic links.

    A deployment points these links elsewhere, and workers that start later must follow. The shell keeps the name in
    PWD. Where no shell started this process, `other` may be the name: the directory of a configuration file.

    Raises ConfigError when the directory has been removed.
    """
    names = [path for path in (Path(environ.get("PWD", "")), other) if path is not None and path.is_absolute()]
    for name in names:
        with contextlib.suppress(OSError):
            if name.samefile("."):
                return name
    try:
        return Path.cwd()
    except FileNotFoundError:
        for name in names:
            if name.is_dir():
                return name
        raise ConfigError("the current directory has been removed; change to another one") from None


def build(settings: Mapping[Key, Setting]) -> Config:
    """Convert merged settings to the configuration, and check it.

    Raises ConfigError for the first setting that is wrong.
    """
    sections: dict[str, Section] = {}
    for name, kind in SECTIONS.items():
        values = {
            key: _convert(section, key, setting) for (section, key), setting in settings.items() if section == name
        }
        sections[name] = kind(**values)
    given: dict[str, dict[str, Any]] = {"*": {}}
    keys: dict[str, dict[str, Any]] = {}
    for (section, key), setting in settings.items():
        if (pattern := pattern_of(section)) is not None:
            given.setdefault(pattern, {})[key] = _convert(section, key, setting)
        elif (owner := api_key_of(section)) is not None:
            keys.setdefault(owner, {})[key] = _convert(section, key, setting)
    channels = {pattern: ChannelConfig(**values) for pattern, values in given.items()}
    api_keys = {name: ApiKeyConfig(**values) for name, values in keys.items()}
    config = Config(**sections, channels=channels, api_keys=api_keys)  # type: ignore[arg-type]
    check_rules(config, settings)
    return config


def _convert(section: str, key: str, setting: Setting) -> Any:
    """Convert a value to the type of its setting.

    Raises ConfigError.
    """
    fields = msgspec.structs.fields(kind_of(section))
    wanted = next(field.type for field in fields if field.name == key)
    value = setting.value
    if setting.is_text:
        match types.type_info(wanted):
            case types.VarTupleType():
                value = [part.strip() for part in value.split(",")]
            case types.BoolType():
                value = {"yes": True, "on": True, "no": False, "off": False}.get(value.lower(), value)
    try:
        return msgspec.convert(value, wanted, strict=not setting.is_text)
    except (msgspec.ValidationError, UnicodeError):  # UnicodeError: bytes of the environment that are not UTF-8
        hidden = is_secret((section, key)) or (section, key) == ("redis", "url")
        shown = "something else" if hidden else brief(value)
        problem = f"{section}.{key} must be {describe_type(wanted, value)}, got {shown}"
        raise ConfigError(f"{setting.source}: {problem}") from None
