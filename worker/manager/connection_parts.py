"""The parts of a manager that concern connections: who is connected, how many one user may have, and who is idle."""

import asyncio

from wsd.worker.backend.backend import Backend
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.manager.connection import ConnectionLimits
from wsd.worker.manager.counts import Counts
from wsd.worker.manager.idle import IdleWatch
from wsd.worker.manager.membership import Membership
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.manager.registry import Registry
from wsd.worker.manager.session_parts import SessionParts
from wsd.worker.manager.user_limit import UserLimit


class ConnectionParts:
    """The connections of this worker, with their counters."""

    def __init__(
        self,
        backend: Backend,
        fanout: Fanout,
        outlet: Outlet,
        sessions: SessionParts,
        membership: Membership,
        redis: RedisSteps,
        limits: ConnectionLimits,
    ) -> None:
        self.counts = Counts()
        self.registry = Registry(
            fanout,
            outlet,
            membership,
            UserLimit(limits.per_user, fanout, backend.user_connections, redis),
            sessions.keeper,
            sessions.tracer,
            self.counts,
        )
        self._user_connections = backend.user_connections
        self._idle = IdleWatch(fanout, limits.idle_timeout) if limits.idle_timeout else None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the background work."""
        if self._user_connections is not None:
            users = run_repeatedly(self._user_connections.run, "user connections")
            tasks.create_task(users, name="user-connections")
        if self._idle is not None:
            tasks.create_task(run_repeatedly(self._idle.run, "idle connections"), name="idle")
