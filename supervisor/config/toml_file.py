"""Read settings from wsd.toml, each with the line that it stands in."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from wsd.supervisor.config.keys import (
    API_KEYS,
    CHANNELS,
    REMOVED_KEYS,
    SECTIONS,
    all_keys,
    api_key_section,
    channels_section,
    kind_of,
)
from wsd.supervisor.config.layers import Layer, Setting
from wsd.supervisor.config.paths import absolute
from wsd.supervisor.config.settings import ChannelConfig
from wsd.supervisor.config.wording import brief, did_you_mean
from wsd.supervisor.errors import ConfigError
from wsd.worker.contract.channel_rules import pattern_problem

MAX_FILE_BYTES = 1_048_576
"""The largest file that is read, many times a wsd.toml with every comment. A device would never end."""


def read_toml(path: Path, name: str = "") -> Layer:
    """Read a file. Errors call it `name`, or else by its path.

    Raises ConfigError when the file cannot be read, is not valid TOML, or holds an unknown section or key.
    """
    name = name or str(path)
    try:
        text = _read_regular_file(path, name).decode("utf-8-sig")  # editors on Windows write a byte order mark
        document = tomllib.loads(text)
    except OSError as exc:
        link = f", a symbolic link to {os.path.realpath(path)}" if path.is_symlink() else ""
        raise ConfigError(f"cannot read {name}{link}: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{name} is not valid TOML: it is not UTF-8 text, see byte {exc.start}") from None
    except (ValueError, RecursionError) as exc:  # ValueError is also raised for a number with thousands of digits
        raise ConfigError(f"{name} is not valid TOML: {exc}") from None
    layer: Layer = {}
    for section, content in document.items():
        if section not in SECTIONS and section not in (CHANNELS, API_KEYS):
            hint = did_you_mean(section, [*SECTIONS, CHANNELS, API_KEYS])
            raise ConfigError(f"{_place(path, text, section)}: unknown section [{section}]{hint}")
        if not isinstance(content, dict):
            wanted = f"[{section}] in single brackets" if isinstance(content, list) else f"[{section}]"
            raise ConfigError(f"{_place(path, text, section)}: {section} must be a section, {wanted}")
        if section == CHANNELS:
            layer.update(_read_channels(path, text, content))
            continue
        if section == API_KEYS:
            layer.update(_read_api_keys(path, text, content))
            continue
        for key, value in content.items():
            source = _place(path, text, section, key)
            if key not in SECTIONS[section].__struct_fields__:
                hint = _removal(section, key) or did_you_mean(key, SECTIONS[section].__struct_fields__)
                hint = hint or _section_hint(key)
                raise ConfigError(f"{source}: unknown key {section}.{key}{hint}")
            if isinstance(value, str):
                value = absolute((section, key), value, path.parent)  # noqa: PLW2901
            layer[section, key] = Setting(value, source)
    return layer


def _read_regular_file(path: Path, name: str) -> bytes:
    """Read a regular file of limited size. O_NONBLOCK keeps the opening of a FIFO from waiting for a writer.

    Raises OSError, or ConfigError for a file that is no regular one or too large.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"cannot read {name}: it is not a regular file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"cannot read {name}: it is larger than {MAX_FILE_BYTES} bytes")
    return content


def _read_channels(path: Path, text: str, content: dict[str, Any]) -> Layer:
    """Read the sections of channel patterns, whose `content` is by pattern.

    Raises ConfigError.
    """
    layer: Layer = {}
    for pattern, options in content.items():
        section = channels_section(pattern)
        written = section if _line_of(text, section, None) else f"{CHANNELS}.{pattern}"
        source = _place(path, text, written if _line_of(text, written, None) else CHANNELS)
        if not isinstance(options, dict):
            raise ConfigError(f'{source}: {CHANNELS}.{pattern} must be a section, such as [{CHANNELS}."room:*"]')
        if problem := pattern_problem(pattern):
            raise ConfigError(f"{source}: {section} {problem}")
        if not options and pattern != "*":  # its pattern applies nevertheless, and may say whose the channels are
            options = {"history_size": ChannelConfig().history_size}  # noqa: PLW2901
        for key, value in options.items():
            layer[section, key] = Setting(value, _place_of_key(path, text, written, section, key))
    return layer


def _read_api_keys(path: Path, text: str, content: dict[str, Any]) -> Layer:
    """Read the sections of API keys, whose `content` is by name. A value is not shown: it may be a secret.

    Raises ConfigError.
    """
    layer: Layer = {}
    for name, values in content.items():
        section = api_key_section(name)
        written = section if _line_of(text, section, None) else f'{API_KEYS}."{name}"'
        source = _place(path, text, written if _line_of(text, written, None) else API_KEYS)
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {section} must be a section, such as [{API_KEYS}.orders]")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            problem = "must be named with 1 to 64 of A-Z a-z 0-9 _ -"
            raise ConfigError(f"{source}: [{API_KEYS}.{brief(name)}] {problem}")
        for key, value in {"key": "", **values}.items():  # a section without a key is an error, not no section
            layer[section, key] = Setting(value, _place_of_key(path, text, written, section, key))
    return layer


def _place_of_key(path: Path, text: str, written: str, section: str, key: str) -> str:
    """Name the place of a key in a section of a family. `written`: the section as the file writes it.

    Raises ConfigError for a key that the section does not have.
    """
    place, known = _place(path, text, written, key), kind_of(section).__struct_fields__
    if key not in known:
        raise ConfigError(f"{place}: unknown key {section}.{key}{did_you_mean(key, known)}")
    return place


def _place(path: Path, text: str, section: str, key: str | None = None) -> str:
    """Name the place of a section or key, like `wsd.toml line 12`. Without a line where it is not found."""
    line = _line_of(text, section, key)
    return f"{path.name} line {line}" if line else path.name


def _line_of(text: str, section: str, key: str | None) -> int:
    """Return the number of the line that a section or key stands in, or 0 where it is not found.

    tomllib tells no lines, so this searches for the usual forms. A key in an unusual form gets the line of its section.
    """
    found = 0
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*\[{{0,2}}\s*[\"']?{re.escape(section)}[\"']?\s*[\].=]", line):
            found, inside = number, True
            if key is None:
                return number
        elif line.lstrip().startswith("["):
            inside = False
        elif inside and key is not None and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
            return number
    return found


def _removal(section: str, key: str) -> str:
    return ", it was removed: delete this line" if (section, key) in REMOVED_KEYS else ""


def _section_hint(key: str) -> str:
    homes = [section for section, name in all_keys() if name == key]
    return f", did you mean {homes[0]}.{key}?" if homes else ""
