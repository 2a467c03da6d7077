"""The parts of a manager, built and run in one place."""

import asyncio
from dataclasses import dataclass
from functools import partial

from msgspec import Struct

from wsd.worker.backend.backend import Backend
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.channels import Channels
from wsd.worker.channels.options import ChannelRules
from wsd.worker.channels.presence_events import PresenceEvents
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.manager.client_sessions import ClientSessions
from wsd.worker.manager.connection import ConnectionLimits
from wsd.worker.manager.counts import Counts, StatisticsSource
from wsd.worker.manager.dispatcher import Dispatcher
from wsd.worker.manager.histories import Histories
from wsd.worker.manager.idle import IdleWatch
from wsd.worker.manager.membership import Membership
from wsd.worker.manager.peers import Peers
from wsd.worker.manager.presence import MemberLists
from wsd.worker.manager.publisher import Publisher
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.manager.registry import Registry, end_session, fail_session
from wsd.worker.manager.turns import Turns
from wsd.worker.manager.user_limit import UserLimit
from wsd.worker.security.authorization import Authorize
from wsd.worker.sessions.connection_trace import Tracer
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.wire.channel_names import BROADCAST
from wsd.worker.wire.messages import encode
from wsd.worker.wire.redaction import PayloadFilter

TOUCH_SECONDS = 30.0
"""How often sessions are kept alive at most."""


@dataclass(frozen=True)
class ClientRules:
    """Rules for clients: their limits, the filter of their data, and the application's authorization."""

    limits: ConnectionLimits
    payload_filter: PayloadFilter
    authorize: Authorize | None = None


class ManagerParts:
    """The parts of a manager, on a backend.

    This is the only place that knows which part works with which. Nothing is connected before `run`.
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
        broker = backend.broker
        self.backend = backend
        self.worker_id = worker_id
        self.node_id = node_id
        self.rules = rules
        self.outlet = outlet
        self.counts = Counts()
        self.turns = Turns()
        self.worker_came = asyncio.Event()  # set when another worker announces itself
        redis = RedisSteps(broker, call_timeout / 2)
        self.fanout = Fanout(outlet)
        self.channels = Channels(broker, self.fanout, channel_rules, redis.timeout)
        self.publisher = Publisher(broker, self.channels, worker_id)
        self.histories = Histories(self.channels, backend.receipts, outlet, redis.timeout)
        self.keeper = SessionKeeper(
            backend.sessions,
            backend.ended_connections,
            interval=min(TOUCH_SECONDS, backend.sessions.ttl / 4),
            timeout=redis.timeout,
            on_ended=partial(end_session, self.fanout),
            on_failed=partial(fail_session, self.fanout),
        )
        publish = partial(_publish_to_workers, broker)
        self.tracer = Tracer(worker_id, node_id, self.keeper, find=self.fanout.get, publish=publish)
        self.presence_events = PresenceEvents(
            backend.presence,
            publish=lambda channel, text: broker.publish(channel_key(channel), text),
            send_here=lambda channel, text: self.fanout.send(self.fanout.members(channel), text),
        )
        self.members = MemberLists(
            backend.presence,
            self.presence_events,
            self.fanout,
            self.channels,
            redis,
            worker_id=worker_id,
            node_id=node_id,
        )
        self.membership = Membership(self.channels, self.fanout, self.members, self.keeper, rules.authorize)
        self.client_sessions = ClientSessions(backend.sessions, redis, self.turns, worker_id=worker_id, node_id=node_id)
        self.registry = Registry(
            self.fanout,
            outlet,
            self.membership,
            UserLimit(rules.limits.per_user, self.fanout, backend.user_connections, redis),
            self.keeper,
            self.tracer,
            self.counts,
        )
        self.statistics = StatisticsSource(
            worker_id, node_id, counts=self.counts, broker=broker, fanout=self.fanout, channels=self.channels
        )
        self.peers = Peers(
            worker_id,
            publish=publish,
            keeper=self.keeper,
            tracer=self.tracer,
            statistics=self.statistics.statistics,
            worker_came=self.worker_came,
        )
        self.dispatcher = Dispatcher(
            fanout=self.fanout,
            channels=self.channels,
            peers=self.peers,
            keeper=self.keeper,
            presence=backend.presence,
            members=self.members,
        )

    async def run(self) -> None:
        """Receive messages and do the background work of all parts, until cancelled."""
        backend = self.backend
        self.publisher.attach()
        await backend.broker.subscribe(*self.peers.channels)
        with self.channels.holding(BROADCAST):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(backend.broker.run(self.dispatcher), name="broker")
                tasks.create_task(self.keeper.run(), name="sessions")
                tasks.create_task(backend.presence.run(), name="presence")
                tasks.create_task(self.channels.run(), name="channels")
                tasks.create_task(self.presence_events.run(), name="presence-events")
                tasks.create_task(run_repeatedly(backend.receipts.run, "receipts"), name="receipts")
                tasks.create_task(run_repeatedly(self.peers.run, "answers to workers"), name="answers")
                if (user_connections := backend.user_connections) is not None:
                    tasks.create_task(run_repeatedly(user_connections.run, "user connections"), name="user-connections")
                if timeout := self.rules.limits.idle_timeout:
                    idle = IdleWatch(self.fanout, timeout)
                    tasks.create_task(run_repeatedly(idle.run, "idle connections"), name="idle")

    async def wait_until_ready(self) -> None:
        """Wait until this worker receives messages of the others, or has found that it cannot at present."""
        await self.backend.broker.wait_until_ready()
        await self.channels.wait_until_ready()


async def _publish_to_workers(broker: MessageBroker, channel: str, message: Struct) -> bool:
    return await broker.publish(channel, encode(message))
