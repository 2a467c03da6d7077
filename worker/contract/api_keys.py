"""The rights of an API key, and the sections [api_keys.NAME] as a worker gets them."""

from typing import Literal

Right = Literal["publish", "history", "presence", "channels", "sessions", "disconnect", "subscribe"]
"""The right to do one kind of request of the HTTP API. docs/security.md has a table of them."""

OF_ALL_CHANNELS: frozenset[Right] = frozenset({"channels", "sessions", "disconnect"})
"""The rights whose requests concern no single channel. They need a key for all channels."""

ALL_CHANNELS = "*"
"""The pattern that matches every channel."""
