"""The position of a message in the history of its channel, as it is sent to clients and stored in Redis."""

import re
from typing import Annotated

from msgspec import Meta, Struct

MAX_OFFSET = 2**53 - 1
"""Greater integers are not exact in JavaScript, nor in the Lua scripts that Redis runs."""

MAX_EPOCH_LENGTH = 64
"""The maximum length of an epoch in a position from a client, in characters."""

Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]
EPOCH_PATTERN = r"\A[0-9A-Za-z_-]*\Z"
Epoch = Annotated[str, Meta(max_length=MAX_EPOCH_LENGTH, pattern=EPOCH_PATTERN)]


def is_epoch(text: str) -> bool:
    """Tell whether a text can be an epoch, or is empty."""
    return len(text) <= MAX_EPOCH_LENGTH and re.match(EPOCH_PATTERN, text) is not None


class Position(Struct, frozen=True, gc=False):  # constructing one checks nothing
    """A place in the history of a channel. A position does not say of which channel.

    Offsets count the messages of a channel from 1; 0 is the place before the first. The epoch changes when the history
    is lost and offsets begin again, so positions of different epochs cannot be compared.

    Positions from clients are checked when they are decoded.
    """

    offset: Offset
    """The number of a message in its channel. 0 is the place before the first."""

    epoch: Epoch
    """The run of offsets, which begins anew when the history is lost."""

    @classmethod
    def parse(cls, text: str | bytes) -> "Position":
        """Parse `text`, the form in which Redis stores a position, such as `17:5f0c`: what `str(position)` returns.

        Raises ValueError if the offset is not a number.
        """
        offset, _, epoch = (text if isinstance(text, str) else text.decode()).partition(":")
        return cls(int(offset), epoch)

    def __str__(self) -> str:
        return f"{self.offset}:{self.epoch}"


NOWHERE = Position(0, "")
"""The position in a channel that has no history."""
