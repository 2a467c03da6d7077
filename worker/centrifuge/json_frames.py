"""Frames with JSON: commands and replies, one a line."""

import json
from collections.abc import Iterable

import msgspec

from wsd.worker.centrifuge.messages import BadCommand, Command, Push, Reply

_command = msgspec.json.Decoder(Command)
_encoder = msgspec.json.Encoder()


def decode(frame: str | bytes) -> list[Command | BadCommand]:
    """Return the commands in a frame. Lines without anything are ignored.

    A half of a surrogate pair, which a browser sends for a broken emoji, makes a BadCommand.

    Raises ValueError if a line is not a command.
    """
    # Data is relayed as it is and must be UTF-8, which msgspec does not check.
    text = frame.decode() if isinstance(frame, bytes) else frame
    try:
        return [_decode_line(line) for line in text.split("\n") if line.strip()]
    except RecursionError:
        raise ValueError("a command is too deep") from None


def _decode_line(line: str) -> Command | BadCommand:
    try:
        return _command.decode(line)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        found = json.loads(line)  # it reads halves of surrogate pairs, which msgspec does not
        number = found.get("id") if isinstance(found, dict) else None
        if type(number) is not int or not 0 < number < 2**32:
            raise
        return BadCommand(id=number, detail="half of a surrogate pair is no text")


def encode(replies: Iterable[Reply]) -> bytes:
    """Return a frame with replies, one at least.

    The clients split a frame at line feeds before they parse anything. JSON allows a line feed only between its parts,
    where it means nothing, so that those in data are left out.
    """
    return b"\n".join(_encoder.encode(reply).replace(b"\n", b"") for reply in replies)


def encode_push(push: Push) -> bytes:
    """Return a push as transports in one direction send it: without the reply around it, and on one line."""
    return _encoder.encode(push).replace(b"\n", b"")
