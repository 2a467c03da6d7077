"""The dialect of the hub's own protocol, which docs/protocol.md describes.

Workers publish in the same format. So what was published goes out as it is, apart from its position.
"""

from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import label_of
from wsd.worker.wire.position import Position


class HubDialect(Dialect):
    """The hub's protocol: one JSON object in each text."""

    __slots__ = ()

    def published(self, payload: bytes, channel: str, at: Position | None) -> bytes:
        if at is None:
            return payload
        return b'%s,"offset":%d,"epoch":"%s"}' % (payload[:-1], at.offset, at.epoch.encode())

    def position(self, channel: str, at: Position) -> bytes:
        return wire.encode(wire.PositionNotice(label_of(channel), at.offset, at.epoch))

    def gap(self, channel: str, reason: str, at: Position) -> bytes:
        return wire.encode(wire.Gap(label_of(channel), reason, at.offset, at.epoch))

    def welcome(self, welcome: wire.Welcome) -> bytes:
        return wire.encode(welcome)

    def joined(self, channel: str, at: Position | None) -> bytes:
        if at is None:
            return wire.encode(wire.Subscribed(channel=label_of(channel)))
        return wire.encode(wire.Subscribed(channel=label_of(channel), offset=at.offset, epoch=at.epoch))

    def left(self, channel: str, reason: wire.LeaveReason) -> bytes:
        return wire.encode(wire.Unsubscribed(label_of(channel), reason))


HUB = HubDialect()
"""The dialect of all clients that have no other one, also of applications with formats of their own."""
