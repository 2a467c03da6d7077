"""Spread connections over all workers.

Connections live long, so a worker that was started later stays empty unless others close some of theirs. The clients
of closed connections resume on the worker to which nginx sends them. nginx counts connections anew after a reload, so
some come back to a full worker, and more than one round is needed. Each round closes the oldest connections of a
worker, so no client moves twice.
"""

import asyncio
import http.client
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.children import Child
from wsd.supervisor.services import nginx_config
from wsd.supervisor.services.worker import WorkerService

ROUNDS = 8

TOLERANCE = 0.05
"""The part of its share by which a worker may exceed it."""

PROBE_SECONDS = 2.0
LOOK_SECONDS = 0.2

RETURN_SECONDS = 10.0
"""How long clients may take to come back before the next round begins without them."""


def surplus(connections: Mapping[str, int]) -> dict[str, int]:
    """Return how many connections each worker has beyond its share, for workers that clearly exceed it. Pure."""
    share = math.ceil(sum(connections.values()) / max(1, len(connections)))
    slack = math.floor(share * TOLERANCE)
    return {name: count - share for name, count in connections.items() if count > share + slack}


def refusal(cluster: Cluster) -> str | None:
    """Say why clients would not move to other workers, or return None."""
    config, watch = cluster.config, cluster.redis_watch
    if nginx_config.affinity(config.nginx.affinity, config.cluster.host) == "ip" and cluster.nginx is not None:
        return 'with nginx.affinity "ip" a client comes back to the worker that it was on: nothing would move'
    if watch is None or watch.error is not None:
        text = watch.error.summary if watch is not None and watch.error is not None else "there is no Redis"
        return f"{text}, and without it clients could not resume on another worker"
    return None


async def rebalance(workers: Sequence[Child[WorkerService]], say: Say) -> None:
    """Let workers with too many connections close some, in rounds.

    Raises CommandError when a worker does not answer.
    """
    services = {child.service.name: child.service for child in workers if child.slot.ready}
    for _ in range(ROUNDS):
        connections = await count_connections(services)
        too_many = surplus(connections)
        if not too_many:
            break
        say("; ".join(f"{name} closes {count} of {connections[name]} connections" for name, count in too_many.items()))
        seconds = [await send_away(services[name], count) for name, count in too_many.items()]
        await asyncio.sleep(max(seconds) + LOOK_SECONDS)
        await _until_back(services, sum(connections.values()))
    say("connections: " + ", ".join(f"{name} {count}" for name, count in (await count_connections(services)).items()))


async def count_connections(services: Mapping[str, WorkerService]) -> dict[str, int]:
    beats = await asyncio.gather(*(service.probe(PROBE_SECONDS) for service in services.values()))
    counts = {}
    for name, beat in zip(services, beats, strict=True):
        if beat is None:
            raise CommandError(f"{name} does not answer; `wsd rebalance` again when it does")
        counts[name] = beat.connections
    return counts


async def send_away(service: WorkerService, count: int) -> float:
    """Let a worker close `count` connections, and return how many seconds it takes for that.

    Raises CommandError.
    """
    try:
        status, answer = await service.ask("POST", "rebalance", {"connections": count})
    except (OSError, http.client.HTTPException) as exc:
        raise CommandError(f"{service.name} does not answer: {exc!r}") from None
    if status != 200:
        raise CommandError(f"{service.name} refuses: {answer.decode(errors='replace')}")
    result: dict[str, Any] = msgspec.json.decode(answer)
    return float(result["seconds"])


async def _until_back(services: Mapping[str, WorkerService], before: int) -> None:
    """Wait until there are as many connections as before, for RETURN_SECONDS at most: some clients may never return."""
    gives_up_at = time.monotonic() + RETURN_SECONDS
    while sum((await count_connections(services)).values()) < before:
        if time.monotonic() > gives_up_at:
            return
        await asyncio.sleep(LOOK_SECONDS)
