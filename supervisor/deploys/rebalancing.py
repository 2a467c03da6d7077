"""Connections live long: workers that came later stay empty, unless others send some of theirs away.

Who is sent away resumes where nginx sends it. nginx counts connections anew after a reload, so a part of them may come
back to a full worker: hence rounds. Each takes the connections that a worker has longest, so none moves twice.
"""

import asyncio
import http.client
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.children import Child
from wsd.supervisor.services.worker import WorkerService

ROUNDS = 8

TOLERANCE = 0.05
"""Part of its share by which a worker may have more."""

PROBE_SECONDS = 2.0
LOOK_SECONDS = 0.2

RETURN_SECONDS = 10.0
"""How long clients may take to come back, before the next round goes on without them."""


def surplus(connections: Mapping[str, int]) -> dict[str, int]:
    """How many each worker has beyond its share, for those that have clearly more. Pure."""
    share = math.ceil(sum(connections.values()) / max(1, len(connections)))
    slack = math.floor(share * TOLERANCE)
    return {name: count - share for name, count in connections.items() if count > share + slack}


async def rebalance(workers: Sequence[Child[WorkerService]], say: Say) -> None:
    """Raises CommandError when a worker does not answer."""
    services = {child.service.name: child.service for child in workers if child.slot.ready}
    for _ in range(ROUNDS):
        connections = await _count(services)
        too_many = surplus(connections)
        if not too_many:
            break
        say("; ".join(f"{name} sends {count} of {connections[name]} away" for name, count in too_many.items()))
        seconds = [await _send_away(services[name], count) for name, count in too_many.items()]
        await asyncio.sleep(max(seconds) + LOOK_SECONDS)
        await _until_back(services, sum(connections.values()))
    say("connections: " + ", ".join(f"{name} {count}" for name, count in (await _count(services)).items()))


async def _count(services: Mapping[str, WorkerService]) -> dict[str, int]:
    beats = await asyncio.gather(*(service.probe(PROBE_SECONDS) for service in services.values()))
    counts = {}
    for name, beat in zip(services, beats, strict=True):
        if beat is None:
            raise CommandError(f"{name} does not answer; `wsd rebalance` again when it does")
        counts[name] = beat.connections
    return counts


async def _send_away(service: WorkerService, count: int) -> float:
    """Seconds until the last of them is closed."""
    try:
        status, answer = await service.ask("POST", "rebalance", {"connections": count})
    except (OSError, http.client.HTTPException) as exc:
        raise CommandError(f"{service.name} does not answer: {exc!r}") from None
    if status != 200:
        raise CommandError(f"{service.name} refuses: {answer.decode(errors='replace')}")
    said: dict[str, Any] = msgspec.json.decode(answer)
    return float(said["seconds"])


async def _until_back(services: Mapping[str, WorkerService], before: int) -> None:
    """As many as before; some may never come back."""
    gives_up_at = time.monotonic() + RETURN_SECONDS
    while sum((await _count(services)).values()) < before:
        if time.monotonic() > gives_up_at:
            return
        await asyncio.sleep(LOOK_SECONDS)
