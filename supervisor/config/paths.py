"""Make the relative paths in settings start from a directory."""

import shlex
from pathlib import Path

from wsd.supervisor.config.keys import PATH_KEYS, PROGRAM_KEYS, Key


def absolute(key: Key, value: str, directory: Path) -> str:
    """Return the value of a setting, with its path below `directory` if the setting holds a relative one."""
    if value and key in PATH_KEYS:
        return str(directory / value)
    if key not in PROGRAM_KEYS:
        return value
    if key == ("nginx", "binary"):
        return str(directory / value) if _is_relative(value) else value
    try:
        words = shlex.split(value)
    except ValueError:
        return value  # `rules` says what is wrong with it
    if not words or not _is_relative(words[0]):
        return value
    return shlex.join([str(directory / words[0]), *words[1:]])


def _is_relative(program: str) -> bool:
    return "/" in program and not program.startswith("/")
