"""The answer of a worker at /health. Pure."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from wsd.worker.broker.circuit_breaker import BreakerState
from wsd.worker.broker.message_broker import BrokerHealth, Mode
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState
from wsd.worker.contract.redis_address import Place, shown

CONSEQUENCES = {
    Mode.FALLBACK: "messages stay on this node",
    Mode.LOCAL: "messages stay on this worker",
}
"""How far messages reach while Redis is away."""

Status = Literal["healthy", "degraded", "starting", "draining", "deaf", "stopped"]
"""`healthy` and `degraded` workers serve; a degraded one does so without Redis.

A `deaf` worker is connected to Redis and receives nothing. The background work of a `stopped` one has ended: nothing
crosses workers, and only a new process helps.
"""


class WebSocketHealth(Struct, frozen=True, kw_only=True):
    """The state of the cluster, as one worker sees it."""

    worker_id: str
    session_store_healthy: bool
    """Whether sessions are stored."""

    message_broker_healthy: bool
    """Whether messages reach all workers."""

    local_connections: int
    """Connections of this worker."""

    total_sessions: int
    """Sessions of all workers."""

    total_workers: int
    """The number of live workers."""

    mode: Mode
    """How far messages reach."""

    breaker: BreakerState
    """The state of the circuit breaker towards Redis."""

    loop_lag: float  # seconds, the worst since the last heartbeat
    redis_primary: str | UnsetType = UNSET
    """The primary that the Sentinels name, as `host:port`. Absent without Sentinels."""


class WorkerHealth(Struct, frozen=True, kw_only=True):
    """The answer of a worker: its state, its part of the cluster, and its heartbeat."""

    status: Status
    """`healthy` and `degraded` workers serve; a degraded one does so without Redis."""

    websocket: WebSocketHealth
    """Its part of the cluster."""

    heartbeat: Heartbeat
    """The heartbeat that the worker would send now."""

    reason: str | UnsetType = UNSET
    """Why the worker is degraded, and what that means. Absent otherwise."""

    @property
    def serves(self) -> bool:
        """True if load balancers should send traffic to the worker."""
        return self.status in ("healthy", "degraded")


def judge(
    beat: Heartbeat,
    broker: BrokerHealth,
    *,
    running: bool,
    store_healthy: bool,
    sessions: int,
    workers: int,
    primary: Place | None = None,
) -> WorkerHealth:
    """Judge a worker. `running`: whether its background work runs; `sessions`, `workers`: in the whole cluster.

    `primary`: the server that the Sentinels name, None without Sentinels.
    """
    broker_healthy = broker.mode in (Mode.MEMORY, Mode.DISTRIBUTED)
    degraded = not (broker_healthy and store_healthy)
    reason: str | UnsetType = UNSET
    if degraded:
        cause = broker.reason or "sessions cannot be written"
        reason = f"Redis is not reachable, {CONSEQUENCES.get(broker.mode, 'messages cross')}: {cause}"
    status: Status
    if not running:
        status = "stopped"
    elif beat.state is WorkerState.STARTING:
        status = "starting"
    elif beat.state is WorkerState.DRAINING:
        status = "draining"
    elif broker.deaf:
        status = "deaf"
    else:
        status = "degraded" if degraded else "healthy"
    return WorkerHealth(
        status=status,
        websocket=WebSocketHealth(
            worker_id=beat.worker_id,
            session_store_healthy=store_healthy,
            message_broker_healthy=broker_healthy,
            local_connections=beat.connections,
            total_sessions=sessions,
            total_workers=workers,
            mode=broker.mode,
            breaker=broker.breaker,
            loop_lag=beat.loop_lag,
            redis_primary=shown(primary) if primary is not None else UNSET,
        ),
        heartbeat=beat,
        reason=reason,
    )
