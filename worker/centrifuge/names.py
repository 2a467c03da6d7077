"""The names of channels, as clients of the Centrifuge protocol know them. Pure.

A user's own channel is `#` and the user id there. All other names are wsd's.
"""

from wsd.worker.wire.channel_names import BROADCAST, USER_PREFIX, user_channel

PERSONAL_PREFIX = "#"


def public_name(channel: str) -> str:
    """Return the name by which clients know a channel."""
    return PERSONAL_PREFIX + channel.removeprefix(USER_PREFIX) if channel.startswith(USER_PREFIX) else channel


def user_of(name: str) -> str | None:
    """Return the user whose own channel has this name, or None for any other channel."""
    return name.removeprefix(PERSONAL_PREFIX) if name.startswith(PERSONAL_PREFIX) else None


def internal_name(name: str) -> str:
    """Return the name by which workers know a channel that a client names."""
    user_id = user_of(name)
    return user_channel(user_id) if user_id is not None else name


def is_server_side(name: str) -> bool:
    """Tell whether a name is that of a channel into which the server puts clients, and they do not put themselves."""
    return name == BROADCAST or name.startswith(PERSONAL_PREFIX)
