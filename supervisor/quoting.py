"""Text of the operator's as other programs read it: one function for each format.

Paths may hold every byte but zero. In Python's texts, bytes that are not UTF-8 are lone surrogates (PEP 383).
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from wsd.worker.contract.escaping import escape

PLAIN = re.compile(r"[A-Za-z0-9_./+@=:,~-]+")
"""Text that means the same in every format."""

Text = str | Path


def nginx(value: object) -> str:
    """Quote a value for a directive of nginx that does not evaluate variables."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def nginx_file(path: str, prefix: Path) -> str | None:
    """Quote the path of a file for a directive that evaluates variables, in a configuration in the folder `prefix`.

    nginx has no escape for a dollar sign. Where a folder above both holds one, the path from there does; where that
    path holds one, too, the answer is None.
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
    """Quote a word of a setting of a systemd unit in which a dollar sign means nothing, such as `Environment=`."""
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

    systemd wants a plain name of the program itself, and takes the directory from `WorkingDirectory=` only where
    `unit_directory` has an answer. env(1) has neither limit.
    """
    if unit_directory(directory) is not None and PLAIN.fullmatch(argv[0]):
        return " ".join(map(unit_argument, argv))
    return " ".join(map(unit_argument, ("/usr/bin/env", "-C", str(directory), f"PWD={directory}", *argv)))


def unit_directory(path: Path) -> str | None:
    """Write a path for a setting of a systemd unit that is taken as it stands, or None where it cannot be said."""
    if not _is_printable(path) or str(path) != str(path).strip() or str(path).endswith("\\"):
        return None
    return str(path).replace("%", "%%")


def unit_paths(path: Path) -> str | None:
    """Write a path for a setting of a systemd unit that is a list of paths, or None where it cannot be said."""
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
