"""The parts of a manager that concern members: who is in which channel, who may be, and who is told."""

import asyncio
from functools import partial

from wsd.worker.backend.backend import Backend
from wsd.worker.channels.member_messages import text_message
from wsd.worker.channels.presence_events import PresenceEvents
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.manager.member_lists import MemberLists
from wsd.worker.manager.membership import Membership
from wsd.worker.manager.message_parts import MessageParts
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.security.authorization import Authorize
from wsd.worker.sessions.keeper import SessionKeeper


class MemberParts:
    """The members of channels: joining and leaving, the lists of members, and the events when lists change."""

    def __init__(
        self,
        backend: Backend,
        messages: MessageParts,
        keeper: SessionKeeper,
        redis: RedisSteps,
        authorize: Authorize | None,
        *,
        worker_id: str,
        node_id: str,
    ) -> None:
        """`authorize`: the application's own rule on who may subscribe to what, None if it has none."""
        broker, fanout = backend.broker, messages.fanout
        self.presence = backend.presence
        self.events = PresenceEvents(
            backend.presence,
            publish=lambda channel, text: broker.publish(channel_key(channel), text),
            send_here=lambda channel, text: fanout.send_to_members(channel, partial(text_message, text, channel)),
        )
        self.lists = MemberLists(
            backend.presence, self.events, fanout, messages.channels, redis, worker_id=worker_id, node_id=node_id
        )
        self.membership = Membership(messages.channels, fanout, self.lists, keeper, authorize)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the background work."""
        tasks.create_task(self.presence.run(), name="presence")
        tasks.create_task(self.events.run(), name="presence-events")
