"""The problems of a cluster, and warnings of problems to come, in words."""

import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.logs.follow import tail
from wsd.supervisor.monitoring.capacity import (
    connections_possible,
    connections_warning,
    redis_warning,
    refusals_warning,
)
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import LifeSign, Service
from wsd.supervisor.processes.slot import SlotState
from wsd.supervisor.services.nginx_config import worker_processes


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, as a line for people, with a key that stays the same while figures in the line change.

    `crashes` says how many times a process has just ended. An urgent problem does not end by itself.
    """

    key: str
    text: str
    crashes: int = 0
    is_urgent: bool = False
    is_planned_in_operations: bool = False


def _by_text(text: str) -> Problem:
    """Return a problem whose key is its text without figures."""
    return Problem(re.sub(r"[0-9]+", "#", text), text)


def problems(cluster: Cluster) -> Iterator[Problem]:
    """Yield why the cluster is not healthy."""
    yield from map(_by_text, cluster.notices)
    watch = cluster.redis_watch
    if watch is not None and watch.error is not None:
        yield Problem("redis", redis_problem(watch.error, has_fallback=bool(cluster.fallback_url)))
    if watch is not None and watch.other_holder is not None:
        yield Problem("node id", f'node id "{cluster.loaded.node_id}" is live on {watch.other_holder}, too')
    for child in cluster.children:
        slot = child.slot
        beat = child.pulse.beat if child.pulse is not None else None
        if slot.state is SlotState.STOPPED and slot.name in cluster.children.drained:
            continue  # `wsd drain` has emptied it
        if not slot.ready:
            text = f"{slot.name} is {slot.display_state}"
            if slot.last_exit:
                text += f", last end: {slot.last_exit}"
            if slot.state is SlotState.FAILED:
                lines = tail(cluster.state_dir.log(slot.name), child.log_start, 1)
                text += f"; its log ends with: {lines[0]}" if lines else ""
            if slot.state is SlotState.FAILED:
                yield Problem(f"{slot.name} failed", text, is_urgent=True)
            else:
                yield Problem(slot.name, text, is_planned_in_operations=True)
        elif (silence := _silence(child, cluster)) is not None:
            text = f"{slot.name} has sent no heartbeat for {silence:.0f} s: `wsd restart {slot.name.partition('-')[2]}`"
            yield Problem(slot.name, text)
        elif watch is not None and watch.error is None and beat is not None and not beat.redis:
            yield Problem(f"{slot.name} redis", f"{slot.name} cannot reach Redis")


def redis_problem(error: RedisUnusableError, *, has_fallback: bool) -> str:
    """Say why Redis cannot be used, and where messages go meanwhile."""
    if error.stores_nothing:
        return f"{error.summary}; messages that are to be stored reach nobody: {error}"
    return f"{error.summary}, messages stay on {'this node' if has_fallback else 'their worker'}: {error}"


def _silence(child: Child[Service], cluster: Cluster) -> float | None:
    """Return how long a worker has been silent, in seconds, or None while health.heartbeat_timeout allows it."""
    if child.pulse is None or child.service.life_sign is not LifeSign.HEARTBEAT:
        return None
    silence = cluster.clock.now() - child.pulse.seen_at
    return silence if silence > cluster.config.health.heartbeat_timeout else None


def warnings(cluster: Cluster) -> Iterator[Problem]:
    """Yield what will go wrong unless somebody acts."""
    beats = [child.pulse.beat for child in cluster.workers if child.pulse is not None]
    connections = sum(beat.connections for beat in beats if beat is not None)
    if cluster.up and (text := connections_warning(connections, connections_possible_now(cluster))):
        yield _by_text(text)
    pulses = [child.pulse for child in cluster.workers if child.pulse is not None]
    if text := refusals_warning((pulse.refused_at for pulse in pulses), cluster.clock.now()):
        yield _by_text(text)
    if cluster.certificates is not None:
        yield from map(_by_text, cluster.certificates.warnings())
    watch = cluster.redis_watch
    if watch is not None and (text := redis_warning(watch.info, embedded=not cluster.config.redis.url)):
        yield _by_text(text)


def connections_possible_now(cluster: Cluster) -> int:
    """Return how many connections the workers that are ready can hold, together."""
    workers = sum(child.slot.ready for child in cluster.workers)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # the processes have inherited our limit
    config = cluster.config
    processes = worker_processes(config) if cluster.nginx is not None else 0
    return connections_possible(workers, files, processes, config.nginx.worker_connections)
