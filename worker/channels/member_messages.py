"""Messages to the members of a channel: its entries, and notices about their positions."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from wsd.worker.broker.history import Entry
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.feed import Advance, Deliver, Jump, Step
from wsd.worker.delivery.batch import Message, message_in
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.logs import get_logger
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import label_of
from wsd.worker.wire.exclusion import mark_in
from wsd.worker.wire.position import Position

logger = get_logger(__name__)


class MemberMessages:
    """The sender to members on this worker. It carries out the steps of a channel's feed."""

    def __init__(self, fanout: Fanout) -> None:
        self.lost: Counter[str] = Counter()  # losses that members had to be told of, by reason
        self._fanout = fanout

    def send(self, channel: Channel, steps: Sequence[Step]) -> None:
        """Send entries and notices to all members on this worker."""
        name = channel.name
        for number, step in enumerate(steps):
            match step:
                case Deliver(entry):
                    policy = channel.options.slow_readers
                    message = partial(entry_message, entry, name)
                    if mark := mark_in(entry.payload):
                        notice = partial(position_message, entry, name)
                        self._fanout.send_to_others(name, message, mark, policy, notice)
                    else:
                        self._fanout.send_to_members(name, message, policy)
                case Advance(entry):
                    if number + 1 < len(steps) and isinstance(steps[number + 1], Advance):
                        continue  # the last position counts
                    at = entry.position
                    assert at is not None
                    self._fanout.send_to_members(name, partial(advance_message, at, name))
                case Jump(at, reason):
                    if self._fanout.send_to_members(name, partial(gap_message, at, reason.value, name)):
                        self.lost[reason] += 1
                        logger.warning("members of %s are told of a loss: %s", channel.label, reason)


def entry_message(entry: Entry, channel: str, dialect: Dialect) -> Message | None:
    payload = dialect.published(published(entry, channel), channel, entry.position)
    return Message(payload, entry.position, dialect.opcode) if payload is not None else None


def position_message(entry: Entry, channel: str, dialect: Dialect) -> Message | None:
    """Return the notice of the position of an entry, in the place of the entry, for a member that does not get it."""
    at = entry.position
    return message_in(dialect, dialect.position(channel, at), at) if at is not None else None


def advance_message(at: Position, channel: str, dialect: Dialect) -> Message | None:
    """Return the notice of the position of a message that members have already. It is not one of their messages."""
    return message_in(dialect, dialect.position(channel, at))


def gap_message(at: Position, reason: str, channel: str, dialect: Dialect) -> Message | None:
    """Return the notice that messages are missing, and that a member is at a position now."""
    return message_in(dialect, dialect.gap(channel, reason, at))


def text_message(payload: bytes, channel: str, dialect: Dialect) -> Message | None:
    """Return what was published in a channel without a history, or who has come and gone."""
    return message_in(dialect, dialect.published(payload, channel, None))


def published(entry: Entry, channel: str) -> bytes:
    """Return the message of an entry as workers publish it.

    An entry that no worker wrote, and that no client could read, becomes a message without data.
    """
    payload = entry.payload
    return payload if _is_message(payload) else wire.encode(wire.Message(channel=label_of(channel), data=None))


def _is_message(payload: bytes) -> bool:
    """Tell whether a payload is an object with fields, in UTF-8. No client is closed for receiving it then."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return payload.startswith(b'{"') and payload.endswith(b"}")
