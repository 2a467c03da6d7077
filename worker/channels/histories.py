"""The histories of channels: messages are published into them, and read for clients that ask."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wsd.worker.archive.pages import Asked, joined, of_its_epoch, span_beyond, without_archive
from wsd.worker.broker.history import AppendResult, HistoryQuery, Page, Retention
from wsd.worker.broker.message_broker import MessageBroker, OnAppended
from wsd.worker.channels.channel import Channel, retention_of
from wsd.worker.channels.member_messages import MemberMessages
from wsd.worker.channels.options import ChannelOptions
from wsd.worker.channels.recovery import check_readable
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.errors import ArchiveUnavailableError, NotStoredError
from wsd.worker.redis_client import redis_errors
from wsd.worker.wire.position import Position

if TYPE_CHECKING:  # it imports asyncpg, which only an archive needs
    from wsd.worker.archive.reader import ArchiveReader


class ChannelHistories:
    """The histories of all channels, whether they have members on this worker or not."""

    def __init__(
        self,
        broker: MessageBroker,
        channels: Mapping[str, Channel],
        options: Callable[[str], ChannelOptions],
        members: MemberMessages,
        timeout: float,
        archive: "ArchiveReader | None" = None,
    ) -> None:
        """`channels`: all that are open, by name. `options`: those of a channel. `timeout`: seconds for a read."""
        self._archive = archive
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
        retention = Retention(
            options.history_size, options.history_ttl_seconds, idempotency_key, archived=options.archive
        )
        self._broker.append_soon(channel_key(name), body, retention, echo, on_stored)

    async def read(self, name: str, asked: Asked) -> Page:
        """Read a part of a channel's history: from Redis, and beyond it from the archive, if the channel has one.

        Where the archive does not answer, the page is `incomplete`. Raises RedisUnavailableError.
        """
        page = await self._read(name, asked)
        if (archive := self._archive_of(name)) is None:
            return of_its_epoch(asked, page)
        if (span := span_beyond(asked, page)) is None:
            return page
        try:
            return joined(asked, page, span, await archive.read(name, span))
        except ArchiveUnavailableError:
            return without_archive(page, span)

    async def delete(self, name: str) -> None:
        """Delete the messages of a channel, also in the archive.

        Raises ArchiveUnavailableError if the archive does not answer, and nothing is deleted; RedisUnavailableError.
        """
        if (archive := self._archive_of(name)) is None:
            async with redis_errors(self._timeout):
                await self._broker.delete_history(channel_key(name))
            return
        top = (await self._read(name, Asked(since=0, count=1, max_bytes=1, reverse=True))).top
        await archive.delete(name, top)
        async with redis_errors(self._timeout):
            await self._broker.delete_history(channel_key(name), top.offset)

    def _archive_of(self, name: str) -> "ArchiveReader | None":
        return self._archive if self._options(name).archive else None

    async def _read(self, name: str, asked: Asked) -> Page:
        """Read a page of Redis. Raises RedisUnavailableError."""
        retention = retention_of(self._options(name))
        query = HistoryQuery(
            channel_key(name), retention, asked.since, asked.count, asked.reverse, max_bytes=asked.max_bytes
        )
        async with redis_errors(self._timeout):
            [page] = await self._broker.read([query])
        check_readable(page)
        return page

    def has_handed_out(self, name: str, at: Position) -> bool:
        """Tell whether members here can have seen all up to a position."""
        channel = self._channels.get(name)
        last = channel.feed.position if channel is not None and channel.feed is not None else None
        return last is not None and at.epoch == last.epoch and at.offset <= last.offset
