"""Quote paths and names for the files of other programs, with one function for each format.

A path may hold every byte but zero. In a Python string, bytes that are not UTF-8 are lone surrogates (PEP 383).
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from wsd.worker.contract.escaping import escape

PLAIN = re.compile(r"[A-Za-z0-9_./+@=:,~-]+")
"""Text that needs no quotes in any format."""

Text = str | Path


def nginx(value: object) -> str:
    """Quote a value for a directive of nginx that does not evaluate variables."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def nginx_file(path: str, prefix: Path) -> str | None:
    """Quote the path of a file for a directive that evaluates variables, in a configuration in the folder `prefix`.

    nginx has no escape for a dollar sign. A path with one is written relative to `prefix`, which helps where the dollar
    sign is in a folder above both. Returns None where the relative path has a dollar sign, too.
    """
    if "$" in path:
        path = os.path.relpath(path, prefix.resolve())
    return None if "$" in path else nginx(path)


def unix_url(path: Path) -> str:
    """Write the address of a Redis on a unix socket."""
    return "unix://" + quote(os.fsencode(path))


def unit_argument(value: Text) -> str:
    """Quote an argument of a command in a systemd unit, systemd.service(5)."""
    return unit_word(value).replace("$", "$$")


def unit_word(value: Text) -> str:
    """Quote a word of a setting of a systemd unit that does not expand variables, such as `Environment=`."""
    if PLAIN.fullmatch(str(value)):
        return str(value)
    quoted = ""
    for byte in os.fsencode(value):
        if byte == ord("%"):
            quoted += "%%"
        elif 32 <= byte < 127 and byte not in b"\"'\\":
            quoted += chr(byte)
        else:
            quoted += f"\\x{byte:02x}"
    return f'"{quoted}"'


def unit_command(argv: Sequence[str], directory: Path) -> str:
    """Write a command that runs in `directory`, for a systemd unit.

    systemd does not take every path of a program, and `WorkingDirectory=` does not take every directory. env(1) takes
    all of them, so the command goes through env(1) where a path is not plain.
    """
    if unit_directory(directory) is not None and PLAIN.fullmatch(argv[0]):
        return " ".join(map(unit_argument, argv))
    return " ".join(map(unit_argument, ("/usr/bin/env", "-C", str(directory), f"PWD={directory}", *argv)))


def unit_directory(path: Path) -> str | None:
    """Write a path for a setting of a systemd unit that takes no quotes, or return None where that is impossible."""
    if not _is_printable(path) or str(path) != str(path).strip() or str(path).endswith("\\"):
        return None
    return str(path).replace("%", "%%")


def unit_paths(path: Path) -> str | None:
    """Write a path for a setting of a systemd unit that is a list of paths, or return None where that is impossible."""
    text = str(path).replace("%", "%%")
    if not _is_printable(path) or ("'" in text and '"' in text):
        return None
    return text if PLAIN.fullmatch(str(path)) else f"'{text}'" if "'" not in text else f'"{text}"'


def unit_text(value: Text) -> str:
    """Write text for people into a comment or a description of a systemd unit."""
    return escape(encodable(value)).replace("%", "%%").replace("\\", "\\\\")


def encodable(value: Text) -> str:
    """Write a path as text that can be encoded; what is not UTF-8 is shown as `\\xff`."""
    return os.fsencode(value).decode("utf-8", "backslashreplace")


def _is_printable(path: Path) -> bool:
    return str(path).isprintable()
