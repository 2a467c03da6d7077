"""The faults of `wsd chaos`: their kinds, and a schedule that a seed determines. Pure."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.errors import ConfigError

T = TypeVar("T")


class Fault(StrEnum):
    """The kinds of faults, named as `--faults` takes them."""

    WORKER_KILL = "worker-kill"  # SIGKILL
    WORKER_FREEZE = "worker-freeze"  # SIGSTOP, and SIGCONT later if the process still exists
    WORKER_STOP = "worker-stop"  # SIGTERM: the worker drains although the supervisor did not ask for it
    RESTART = "restart"  # `wsd restart`: replaces all workers
    UPGRADE = "upgrade"  # `wsd upgrade`: replaces the supervisor
    NGINX_RELOAD = "nginx-reload"  # SIGHUP
    NGINX_KILL = "nginx-kill"  # SIGKILL
    VALKEY_KILL = "valkey-kill"  # SIGKILL to the embedded Valkey
    VALKEY_FREEZE = "valkey-freeze"  # SIGSTOP, and SIGCONT later
    PUBSUB_KILL = "pubsub-kill"  # CLIENT KILL of all subscribed connections to Redis
    CLIENT_DROP = "client-drop"  # drops a client's connection, as a failing network does
    NODE_KILL = "node-kill"  # SIGKILL to all processes of a node, which is then started again
    NODE_FREEZE = "node-freeze"  # SIGSTOP to all processes of a node, and SIGCONT later
    REDIS_FAILOVER = "redis-failover"  # a failover that Sentinel is asked for
    REDIS_KILL = "redis-kill"  # SIGKILL to the primary, which is started again after Sentinel has replaced it
    REDIS_FREEZE = "redis-freeze"  # SIGSTOP to the primary until Sentinel has replaced it, and SIGCONT later


NODE_FAULTS = frozenset({Fault.NODE_KILL, Fault.NODE_FREEZE})
"""Faults of a node as a whole. They need another node, where clients can go."""

REDIS_FAULTS = frozenset({Fault.REDIS_FAILOVER, Fault.REDIS_KILL, Fault.REDIS_FREEZE})
"""Faults of a Redis that Sentinels watch, and whose primary runs on this machine."""


LEAST_GAP, LARGEST_GAP = 1.5, 4.5
"""Seconds between two faults."""

CALM_SECONDS = 5.0
"""Seconds without faults at the beginning and at the end."""


@dataclass(frozen=True)
class Planned:
    """A fault of the schedule."""

    at: float  # seconds from the beginning
    fault: Fault
    which: float  # 0 to 1: selects one of several targets
    seconds: float  # duration of a freeze


def plan(seed: int, duration: float, faults: Collection[Fault]) -> list[Planned]:
    """Make a schedule, in which each fault comes once before any comes again.

    The same arguments always give the same schedule.
    """
    chance = random.Random(seed)
    kinds = sorted(faults)
    found = []
    at = CALM_SECONDS
    left: list[Fault] = []
    while kinds and at < duration - CALM_SECONDS:
        left = left or chance.sample(kinds, len(kinds))
        found.append(Planned(at, left.pop(), chance.random(), chance.uniform(0.5, 8.0)))
        at += chance.uniform(LEAST_GAP, LARGEST_GAP)
    return found


def parse_faults(text: str) -> frozenset[Fault]:
    """Parse a list such as `worker-kill,client-drop`. Raises ConfigError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in [fault.value for fault in Fault]:
            raise ConfigError(f'--faults: there is no fault "{name}", choose from {", ".join(Fault)}')
    return frozenset(map(Fault, names))


def possible(wanted: Collection[Fault], status: ClusterStatus, *, nodes: int, redis_faults: bool) -> frozenset[Fault]:
    """Return the wanted faults that this cluster can be given. Pure.

    `nodes` is how many nodes take part, and `redis_faults` tells whether those of REDIS_FAULTS can be caused.

    Raises ConfigError when a fault was named on the command line and is not possible.
    """
    missing = {fault for fault, process in _needs(status).items() if process is None}
    if len(wanted) < len(Fault) and (impossible := sorted(missing.intersection(wanted))):
        raise ConfigError(f"--faults: this cluster has no process of its own for {', '.join(impossible)}")
    if len(wanted) < len(Fault) and not redis_faults and (impossible := sorted(REDIS_FAULTS.intersection(wanted))):
        raise ConfigError(
            f"--faults: {', '.join(impossible)} needs a redis.url with redis+sentinel://, whose primary runs on this "
            "machine"
        )
    if len(wanted) < len(Fault) and nodes < 2 and (impossible := sorted(NODE_FAULTS.intersection(wanted))):
        raise ConfigError(f"--faults: {', '.join(impossible)} needs --nodes, and a second node where clients can go")
    missing |= (frozenset() if redis_faults else REDIS_FAULTS) | (frozenset() if nodes > 1 else NODE_FAULTS)
    return frozenset(wanted) - missing


def _needs(status: ClusterStatus) -> dict[Fault, object]:
    """Return what some faults need: None if this cluster does not have it."""
    nginx, valkey = status.nginx, status.valkey
    return {
        Fault.NGINX_RELOAD: nginx,
        Fault.NGINX_KILL: nginx,
        Fault.VALKEY_KILL: valkey,
        Fault.VALKEY_FREEZE: valkey,
        Fault.PUBSUB_KILL: status.redis.url,
    }


def pick(items: Sequence[T], which: float) -> T:
    """Select an item by a number from 0 to 1."""
    return items[min(len(items) - 1, int(which * len(items)))]
