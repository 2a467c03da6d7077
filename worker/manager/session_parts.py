"""The parts of a manager that concern sessions: they are found or made, kept, and traced."""

import asyncio
from functools import partial

from wsd.worker.backend.backend import Backend
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.manager.client_sessions import ClientSessions
from wsd.worker.manager.peers import PublishToWorkers
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.manager.registry import end_session, fail_session
from wsd.worker.manager.turns import Turns
from wsd.worker.sessions.connection_trace import Tracer
from wsd.worker.sessions.keeper import SessionKeeper

TOUCH_SECONDS = 30.0
"""The longest time between two rounds that keep sessions alive."""


class SessionParts:
    """The sessions of the clients of this worker."""

    def __init__(
        self,
        backend: Backend,
        fanout: Fanout,
        redis: RedisSteps,
        publish: PublishToWorkers,
        *,
        worker_id: str,
        node_id: str,
    ) -> None:
        self.turns = Turns()
        self.keeper = SessionKeeper(
            backend.sessions,
            backend.ended_connections,
            interval=min(TOUCH_SECONDS, backend.sessions.ttl / 4),
            timeout=redis.timeout,
            on_ended=partial(end_session, fanout),
            on_failed=partial(fail_session, fanout),
        )
        self.tracer = Tracer(worker_id, node_id, self.keeper, find=fanout.get, publish=publish)
        self.client_sessions = ClientSessions(backend.sessions, redis, self.turns, worker_id=worker_id, node_id=node_id)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the background work."""
        tasks.create_task(self.keeper.run(), name="sessions")
