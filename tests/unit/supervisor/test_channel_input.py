"""The messages that `wsd publish` takes from its command line and from standard input."""

import io
from typing import Any

import pytest

from wsd.supervisor.cli.channel_input import MAX_LINE_BYTES, lines, message_data
from wsd.supervisor.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": 1}', {"a": 1}),
        ("5", 5),
        ('"5"', "5"),
        ("null", None),
        ("hello world", "hello world"),
        ("tomorrow: {", "tomorrow: {"),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_data_is_json_or_else_a_text(text: str, data: Any) -> None:
    assert message_data(text, "DATA", is_text=False) == data
    assert message_data(text, "DATA", is_text=True) == text


@pytest.mark.parametrize("text", ["{a: 1}", "[1, 2", '"hello', "[NaN]", '  {"a"}', "[" * 100_000])
def test_a_slip_in_json_is_not_published_as_a_text(text: str) -> None:
    with pytest.raises(ConfigError, match=r"line 7 begins like JSON, but is none: .*; --text publishes it as it is"):
        message_data(text, "line 7", is_text=False)
    assert message_data(text, "line 7", is_text=True) == text


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(ConfigError, match="line 7 is not UTF-8"):
        message_data(b"\xff", "line 7", is_text=True)


class Pieces(io.RawIOBase):
    """A stream that gives one piece after the other."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._pieces.pop(0) if self._pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


def read(*pieces: bytes) -> list[list[tuple[str, bytes]]]:
    return [batch for batch in lines(io.BufferedReader(Pieces(*pieces), 100_000)) if batch]


def test_lines_come_as_soon_as_they_are_whole() -> None:
    assert read(b"one\ntw", b"o\r\n\n", b"four") == [
        [("line 1 of standard input", b"one")],
        [("line 2 of standard input", b"two")],
        [("line 4 of standard input", b"four")],
    ]
    assert read(b"one\ntwo\n") == [[("line 1 of standard input", b"one"), ("line 2 of standard input", b"two")]]
    assert read() == []


def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="line 2 of standard input is longer than 1048576 bytes"):
        read(b"one\n", *([b"x" * 65_536] * (MAX_LINE_BYTES // 65_536 + 1)))
