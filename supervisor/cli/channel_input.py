"""The messages that `wsd publish` takes from its command line and from standard input."""

import io
import json
from collections.abc import Iterator
from typing import Any, Final

from wsd.supervisor.errors import ConfigError

CHUNK_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 1_048_576

JSON_BEGINS: Final = ("{", "[", '"')


def message_data(given: str | bytes, name: str, *, is_text: bool) -> Any:
    """Return the data in a text: its JSON, or else the text itself. `is_text`: it is no JSON, whatever it looks like.

    `name` says in errors what the text is. Raises ConfigError for a text that begins like JSON and is none, and for
    bytes that are not UTF-8.
    """
    try:
        text = given if isinstance(given, str) else given.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{name} is not UTF-8: {exc.reason}") from None
    if is_text:
        return text
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        if text.lstrip().startswith(JSON_BEGINS):
            raise ConfigError(f"{name} begins like JSON, but is none: {exc}; --text publishes it as it is") from None
        return text


def standard_input() -> Iterator[list[tuple[str, bytes]]]:
    """Yield the lines of standard input, see `lines`."""
    with open(0, "rb", closefd=False) as source:
        yield from lines(source)


def lines(source: io.BufferedIOBase) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the lines of a stream as soon as they come, each with its name. Empty lines are left out.

    Raises ConfigError for a line that is longer than any message.
    """
    number, rest = 0, b""
    while chunk := source.read1(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        yield _named(whole, number + 1)
        number += len(whole)
        if len(rest) > MAX_LINE_BYTES:
            raise ConfigError(f"{_name(number + 1)} is longer than {MAX_LINE_BYTES} bytes")
    yield _named([rest], number + 1)


def _named(found: list[bytes], first: int) -> list[tuple[str, bytes]]:
    named = ((_name(number), line.removesuffix(b"\r")) for number, line in enumerate(found, first))
    return [(name, line) for name, line in named if line]


def _name(number: int) -> str:
    return f"line {number} of standard input"


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
