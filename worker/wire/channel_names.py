"""The names of channels: those that clients may use, and those that the server gives.

A client names a channel as it likes. The channel `broadcast` and the channel of each user are the server's.
"""

import re

from wsd.worker.wire.messages import RequestError

BROADCAST = "broadcast"
"""The name of the channel that every connection receives."""

DIRECT = "direct"
"""The name under which a client receives the channel with the messages to its user alone."""

USER_PREFIX = "!"
"""The first character of the name of a user's channel. No client can name a channel that begins with it."""

MAX_CHANNEL_LENGTH = 255
CHANNEL_NAME = re.compile(rf"[A-Za-z0-9_.:@/#-]{{1,{MAX_CHANNEL_LENGTH}}}")


def user_channel(user_id: str) -> str:
    """Name the channel with the messages to one user."""
    return USER_PREFIX + user_id


def label_of(channel: str) -> str:
    """Return the name by which clients of the hub know a channel: each user's own channel is DIRECT to that user."""
    return DIRECT if channel.startswith(USER_PREFIX) else channel


def is_channel(name: str) -> bool:
    """Return whether clients may use a channel of this name."""
    return CHANNEL_NAME.fullmatch(name) is not None and name not in (BROADCAST, DIRECT)


def check_channel(channel: str) -> None:
    """Check the channel in a request.

    Raises RequestError `invalid_channel`.
    """
    if not CHANNEL_NAME.fullmatch(channel):
        problem = "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"
    elif channel == BROADCAST:
        problem = "every client is in the channel broadcast, send a broadcast to it"
    elif channel == DIRECT:
        problem = "the channel direct is each client's own, send a direct message to it"
    else:
        return
    raise RequestError("invalid_channel", problem)
