"""The grants of members: rights beyond the rules, from subscription tokens and from the application."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from wsd.worker.delivery.outbox import Outbox
from wsd.worker.security.authentication import Identity
from wsd.worker.security.channel_access import Grant


class _Held(NamedTuple):
    grant: Grant
    end: asyncio.TimerHandle | None  # of its token


class Grants:
    """The grants of the connections of this worker, by channel. Connections without a grant take no memory."""

    def __init__(self, on_token_end: Callable[[Outbox, str, Identity], None]) -> None:
        """`on_token_end` is called when the token of a grant has ended, once the grant is what is left without it."""
        self._on_token_end = on_token_end
        self._held: dict[Outbox, dict[str, _Held]] = {}

    def of(self, outbox: Outbox, channel: str) -> Grant | None:
        """Return the grant of a member as far as it is still valid."""
        held = self._held[outbox].get(channel) if outbox in self._held else None
        return held.grant.at(time.time()) if held is not None else None

    def set(self, outbox: Outbox, channel: str, grant: Grant, identity: Identity) -> None:
        """Give a member a grant, in place of an earlier one."""
        self.drop(outbox, channel)
        end = None
        if (seconds := grant.seconds_left(time.time())) is not None:
            end = asyncio.get_running_loop().call_later(seconds, self._token_ended, outbox, channel, identity)
        self._held.setdefault(outbox, {})[channel] = _Held(grant, end)

    def drop(self, outbox: Outbox, channel: str) -> None:
        """Forget the grant of a connection that has left a channel. Does nothing if it has none."""
        if (of_outbox := self._held.get(outbox)) is None or (held := of_outbox.pop(channel, None)) is None:
            return
        if held.end is not None:
            held.end.cancel()
        if not of_outbox:
            del self._held[outbox]

    def _token_ended(self, outbox: Outbox, channel: str, identity: Identity) -> None:
        left = self._held[outbox][channel].grant.without_token()
        self.drop(outbox, channel)
        if left is not None:
            self.set(outbox, channel, left, identity)
        self._on_token_end(outbox, channel, identity)
