"""The format of messages on Redis channels."""

import pytest

from wsd.worker.broker.history import Retention
from wsd.worker.broker.message_format import NO_HISTORY, NOT_STORED, UNNUMBERED, parse_message, parse_text
from wsd.worker.broker.spool import Outgoing
from wsd.worker.wire.position import Position

MESSAGE = b"origin 7 a text"


@pytest.mark.parametrize(
    ("outgoing", "position"),
    [
        (Outgoing(7, "c", MESSAGE), NO_HISTORY),
        (Outgoing(7, "c", MESSAGE, Retention(10, 60.0)), NOT_STORED),
        (Outgoing(7, "c", MESSAGE, Retention(10, 60.0), position=Position(17, "5f0c")), b"17:5f0c"),
    ],
)
def test_a_message_follows_its_position(outgoing: Outgoing, position: bytes) -> None:
    assert outgoing.text == position + b" " + MESSAGE
    assert parse_text(outgoing.text) == (position, outgoing.position, b"origin", 7, b"a text")
    assert parse_message(outgoing.message) == (b"origin", 7, b"a text")


def test_a_script_publishes_without_a_number() -> None:
    assert parse_text(UNNUMBERED + b"a text") == (NO_HISTORY, None, b"-", 0, b"a text")


@pytest.mark.parametrize("message", [b"", b"two words", b"origin x text"])
def test_a_message_that_no_broker_wrote_is_no_message(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        parse_message(message)
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        parse_text(b"- " + message)
