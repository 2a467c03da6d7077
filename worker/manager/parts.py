"""The parts of a manager, built and run together. Each subject has a builder of its own."""

import asyncio
from functools import partial

from wsd.worker.backend.backend import Backend
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.channels.options import ChannelRules
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.hooks.readers import EventReaders
from wsd.worker.manager.connection import ClientRules
from wsd.worker.manager.connection_parts import ConnectionParts
from wsd.worker.manager.counts import StatisticsSource
from wsd.worker.manager.dispatcher import Dispatcher
from wsd.worker.manager.member_parts import MemberParts
from wsd.worker.manager.message_parts import MessageParts
from wsd.worker.manager.peers import Peers, publish_to_workers
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.manager.session_parts import SessionParts
from wsd.worker.manager.user_operations import UserOperations
from wsd.worker.wire.channel_names import BROADCAST


class ManagerParts:
    """The parts of a manager, on a backend. Nothing is connected before `run`.

    Each group of parts knows only the groups that are built before it: messages, sessions, members, connections. What
    joins them to the other workers is built here: the statistics, the peers and the dispatcher.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        worker_id: str,
        node_id: str,
        rules: ClientRules,
        channel_rules: ChannelRules,
        outlet: Outlet,
        call_timeout: float = 2.0,
    ) -> None:
        """`call_timeout`: seconds that a call may wait for Redis."""
        self.backend = backend
        self.worker_id = worker_id
        self.node_id = node_id
        self.rules = rules
        self.outlet = outlet
        self.worker_came = asyncio.Event()  # set when another worker announces itself
        redis = RedisSteps(backend.broker, call_timeout / 2)
        publish = partial(publish_to_workers, backend.broker)
        self.messages = MessageParts(backend, outlet, channel_rules, worker_id=worker_id, timeout=redis.timeout)
        fanout, channels = self.messages.fanout, self.messages.channels
        self.sessions = SessionParts(backend, fanout, redis, publish, worker_id=worker_id, node_id=node_id)
        keeper, tracer = self.sessions.keeper, self.sessions.tracer
        self.members = MemberParts(
            backend, self.messages, keeper, redis, rules.authorize, worker_id=worker_id, node_id=node_id
        )
        self.connections = ConnectionParts(
            backend, fanout, outlet, self.sessions, self.members.membership, redis, rules.limits
        )
        self.counts = self.connections.counts
        self.event_readers = EventReaders(backend.events, rules.hooks, rules.webhooks)
        self.statistics = StatisticsSource(
            worker_id, node_id, counts=self.counts, broker=backend.broker, fanout=fanout, channels=channels
        )
        self.users = UserOperations(
            worker_id,
            publish=publish,
            fanout=fanout,
            keeper=keeper,
            membership=self.members.membership,
            redis=redis,
        )
        self.peers = Peers(
            worker_id,
            publish=publish,
            keeper=keeper,
            tracer=tracer,
            statistics=self.statistics.statistics,
            users=self.users,
            worker_came=self.worker_came,
        )
        self.dispatcher = Dispatcher(
            fanout=fanout,
            channels=channels,
            peers=self.peers,
            keeper=keeper,
            presence=backend.presence,
            members=self.members.lists,
        )
        backend.broker.listener = self.dispatcher

    async def run(self) -> None:
        """Receive messages and do the background work of all parts, until cancelled."""
        backend = self.backend
        self.messages.publisher.attach()
        await backend.broker.subscribe(*self.peers.channels)
        with self.messages.channels.holding(BROADCAST):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(backend.broker.run(), name="broker")
                self.sessions.start(tasks)
                self.members.start(tasks)
                self.messages.start(tasks)
                self.connections.start(tasks)
                self.event_readers.start(tasks)
                tasks.create_task(run_repeatedly(self.peers.run, "answers to workers"), name="answers")
                tasks.create_task(run_repeatedly(self.users.run, "channels of users"), name="users")

    async def wait_until_ready(self) -> None:
        """Wait until this worker receives the messages of the others, or knows that it cannot at present."""
        await self.backend.broker.wait_until_ready()
        await self.messages.channels.wait_until_ready()
