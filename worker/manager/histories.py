"""The histories of channels, and how far users have read them."""

import msgspec

from wsd.worker.archive.pages import Asked
from wsd.worker.broker.history import Page
from wsd.worker.channels.channels import Channels
from wsd.worker.channels.member_messages import published
from wsd.worker.channels.receipts import Receipts
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.manager.connection import Connection
from wsd.worker.redis_client import redis_errors
from wsd.worker.wire.messages import HistoryPage, RequestId
from wsd.worker.wire.position import Position

MAX_HISTORY_BYTES = 524_288
"""Bytes of messages in one history page.

A page has at most half of the bytes that may wait for one client, if that is less: the client must be able to take it.
"""


class Histories:
    """Reads the histories of channels, and keeps how far users have read them."""

    def __init__(self, channels: Channels, receipts: Receipts, outlet: Outlet, timeout: float) -> None:
        """`timeout`: seconds that Redis may take to answer."""
        self._channels = channels
        self._receipts = receipts
        self._outlet = outlet
        self._timeout = timeout

    async def page(self, channel: str, since: int, limit: int, *, reverse: bool, epoch: str = "") -> Page:
        """Return messages of a channel, see `DistributedWebSocketManager.history`. Raises RedisUnavailableError."""
        max_bytes = min(MAX_HISTORY_BYTES, max(1, self._outlet.max_buffer_bytes // 2))
        return await self._channels.history(channel, Asked(since, limit, max_bytes, reverse, epoch))

    async def delete(self, channel: str) -> None:
        """Delete the messages of a channel, see `DistributedWebSocketManager.delete_history`."""
        await self._channels.delete_history(channel)

    def confirm(self, connection: Connection, channel: str, at: Position) -> None:
        """Note that a client has read a channel up to a position, where the channel has receipts.

        A position that no client can have seen is ignored, so that only real ones take room in Redis.
        """
        options = self._channels.options(channel)
        if options.receipts and channel in connection.channels and self._channels.has_handed_out(channel, at):
            self._receipts.confirm(channel, connection.user_id, at, options.history_ttl_seconds)

    async def read_by(self, channel: str, user_id: str, epoch: str) -> int:
        """Return the highest offset that a user has read; 0 if none is known. Raises RedisUnavailableError."""
        async with redis_errors(self._timeout):
            return await self._receipts.read_by(channel, user_id, epoch)


def hub_page(channel: str, page: Page, request_id: RequestId = None) -> HistoryPage:
    """Return a page of a history in the hub's protocol."""
    messages = [
        msgspec.Raw(HUB.published(published(entry, channel), channel, entry.position)) for entry in page.entries
    ]
    return HistoryPage(
        channel,
        page.top.offset,
        page.top.epoch,
        messages,
        previous=page.previous,
        incomplete=page.incomplete,
        id=request_id,
    )
