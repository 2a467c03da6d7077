"""Messages to the members of a channel: its entries, and notices about their positions."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from wsd.worker.broker.history import Entry
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.feed import Advance, Deliver, Jump, Step
from wsd.worker.delivery.batch import Message
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.logs import get_logger
from wsd.worker.wire import messages as wire
from wsd.worker.wire.exclusion import mark_in

logger = get_logger(__name__)


class MemberMessages:
    """The sender to members on this worker. It carries out the steps of a channel's feed."""

    def __init__(self, fanout: Fanout) -> None:
        self.lost: Counter[str] = Counter()  # losses that members had to be told of, by reason
        self._fanout = fanout

    def send(self, channel: Channel, steps: Sequence[Step]) -> None:
        """Send entries and notices to all members on this worker."""
        for number, step in enumerate(steps):
            match step:
                case Deliver(entry):
                    policy = channel.options.slow_readers
                    message = entry_message(entry, channel.label)
                    if mark := mark_in(entry.payload):
                        notice = position_message(entry, channel.label)
                        self._fanout.send_to_others(channel.name, channel.label, message, mark, policy, notice)
                    else:
                        self._fanout.send_to_members(channel.name, channel.label, message, policy)
                case Advance(entry):
                    if number + 1 < len(steps) and isinstance(steps[number + 1], Advance):
                        continue  # the last position counts
                    at = entry.position
                    assert at is not None
                    self._send_notice(channel, wire.PositionNotice(channel.label, at.offset, at.epoch))
                case Jump(at, reason):
                    if self._send_notice(channel, wire.Gap(channel.label, reason.value, at.offset, at.epoch)):
                        self.lost[reason] += 1
                        logger.warning("members of %s are told of a loss: %s", channel.label, reason)

    def _send_notice(self, channel: Channel, notice: Struct) -> bool:
        """Send a notice to all members. Return whether there are any."""
        return self._fanout.send_to_members(channel.name, channel.label, Message(wire.encode(notice)))


def position_message(entry: Entry, label: str) -> Message | None:
    """Return the notice of the position of an entry, for a member that does not get the entry itself."""
    at = entry.position
    return Message(wire.encode(wire.PositionNotice(label, at.offset, at.epoch)), at) if at is not None else None


def entry_message(entry: Entry, label: str) -> Message:
    return Message(entry_payload(entry, label), entry.position)


def entry_payload(entry: Entry, label: str) -> bytes:
    """Return the message of an entry as clients get it.

    An entry that no worker wrote, and that no client could read, becomes a message without data.
    """
    payload = entry.payload
    if not _is_message(payload):
        payload = wire.encode(wire.Message(channel=label, data=None))
    if entry.position is None:
        return payload
    return b'%s,"offset":%d,"epoch":"%s"}' % (payload[:-1], entry.position.offset, entry.position.epoch.encode())


def _is_message(payload: bytes) -> bool:
    """Tell whether a position can be added to a payload, and no client is closed for receiving it."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return payload.startswith(b'{"') and payload.endswith(b"}")
