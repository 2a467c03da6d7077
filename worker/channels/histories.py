"""The histories of channels: messages are published into them, and read for clients that ask."""

from collections.abc import Callable, Mapping

from wsd.worker.broker.history import AppendResult, HistoryQuery, Page, Retention
from wsd.worker.broker.message_broker import MessageBroker, OnAppended
from wsd.worker.channels.channel import Channel, retention_of
from wsd.worker.channels.member_messages import MemberMessages
from wsd.worker.channels.options import ChannelOptions
from wsd.worker.channels.recovery import check_readable
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.errors import NotStoredError
from wsd.worker.redis_client import redis_errors
from wsd.worker.wire.position import Position


class ChannelHistories:
    """The histories of all channels, whether they have members on this worker or not."""

    def __init__(
        self,
        broker: MessageBroker,
        channels: Mapping[str, Channel],
        options: Callable[[str], ChannelOptions],
        members: MemberMessages,
        timeout: float,
    ) -> None:
        """`channels`: all that are open, by name. `options`: those of a channel. `timeout`: seconds for a read."""
        self._broker = broker
        self._channels = channels
        self._options = options
        self._members = members
        self._timeout = timeout

    def publish_soon(
        self,
        name: str,
        body: bytes,
        idempotency_key: str,
        on_result: OnAppended,
        on_stored: Callable[[Position], None] | None,
    ) -> None:
        """Store a message in a channel's history and publish it; see `MessageBroker.append_soon`."""

        def echo(result: AppendResult | NotStoredError | None) -> None:
            if isinstance(result, AppendResult) and result.entry is not None:
                # It is stored, so members here get it, even if Redis goes away before it is received from there.
                channel = self._channels.get(name)
                if channel is not None and channel.feed is not None:
                    self._members.send(channel, channel.feed.echo(result.entry))
            on_result(result)

        options = self._options(name)
        retention = Retention(options.history_size, options.history_ttl_seconds, idempotency_key)
        self._broker.append_soon(channel_key(name), body, retention, echo, on_stored)

    async def read(self, name: str, since: int, count: int, *, max_bytes: int, reverse: bool) -> Page:
        """Read a part of a channel's history. Raises RedisUnavailableError."""
        retention = retention_of(self._options(name))
        query = HistoryQuery(channel_key(name), retention, since, count, reverse, max_bytes=max_bytes)
        async with redis_errors(self._timeout):
            [page] = await self._broker.read([query])
        check_readable(page)
        return page

    async def delete(self, name: str) -> None:
        """Delete the messages of a channel. Raises RedisUnavailableError."""
        async with redis_errors(self._timeout):
            await self._broker.delete_history(channel_key(name))

    def has_handed_out(self, name: str, at: Position) -> bool:
        """Tell whether members here can have seen all up to a position."""
        channel = self._channels.get(name)
        last = channel.feed.position if channel is not None and channel.feed is not None else None
        return last is not None and at.epoch == last.epoch and at.offset <= last.offset
