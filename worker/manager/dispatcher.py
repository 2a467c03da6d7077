"""The way from the broker and the heartbeat to the parts of the manager."""

from functools import partial

from wsd.worker.channels.channels import Channels
from wsd.worker.channels.member_messages import text_message
from wsd.worker.channels.options import UNNUMBERED_PREFIX
from wsd.worker.channels.presence import Presence
from wsd.worker.contract.redis_keys import channel_of
from wsd.worker.delivery.batch import Message
from wsd.worker.delivery.fanout import Fanout, Render
from wsd.worker.logs import get_logger
from wsd.worker.manager.member_lists import MemberLists
from wsd.worker.manager.peers import Peers
from wsd.worker.manager.publisher import parse_unnumbered
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.wire.exclusion import mark_in

logger = get_logger(__name__)


class Dispatcher:
    """Hands each report of the broker and of the heartbeat to the parts that it concerns. No method blocks.

    It is the BrokerListener and the HeartbeatListener of a worker.
    """

    def __init__(
        self,
        *,
        fanout: Fanout,
        channels: Channels,
        peers: Peers,
        keeper: SessionKeeper,
        presence: Presence,
        members: MemberLists,
    ) -> None:
        # These two belong to the channels alone. They are attributes to spare a call for each message.
        self.entry_received = channels.entry_received
        self.subscriptions_restored = channels.connected_anew
        self._fanout = fanout
        self._channels = channels
        self._peers = peers
        self._keeper = keeper
        self._presence = presence
        self._members = members

    def message_received(self, channel: str, payload: bytes, /) -> None:
        """Send a message to the members of its channel on this worker; hand one for the worker itself to `Peers`."""
        if channel in self._peers.channels:
            self._peers.received(payload)
            return
        name = channel_of(channel)
        try:
            if name.startswith(UNNUMBERED_PREFIX):
                mark, opcode, content = parse_unnumbered(payload)
                message = Message(content, opcode=opcode)
                render: Render = lambda dialect: message  # noqa: E731 - the application's own text, in no dialect
            else:
                payload.decode()
                mark, render = mark_in(payload), partial(text_message, payload, name)
        except UnicodeDecodeError:
            logger.warning("dropped a message on %s that is not UTF-8", channel)
            return
        if mark:
            self._fanout.send_to_others(name, render, mark)
        else:
            self._fanout.send_to_members(name, render)

    def redis_restored(self) -> None:
        """Write sessions and presence again: Redis was away, or has lost something. Check the positions of channels."""
        self._keeper.flush_now()
        self._presence.refresh()
        self._channels.check_all()

    def workers_seen(self, live: frozenset[str]) -> None:
        """Take note of the workers that live now."""
        self._members.workers_seen(live)
