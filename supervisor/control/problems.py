"""The problems of a cluster, and warnings of problems to come, in words."""

import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from wsd.supervisor import quoting
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.counts import count
from wsd.supervisor.logs.follow import tail
from wsd.supervisor.monitoring.capacity import (
    connections_possible,
    connections_warning,
    disk_space,
    redis_disk_warning,
    redis_memory_warning,
    refusals_warning,
)
from wsd.supervisor.monitoring.finding import Grade
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import LifeSign, Service
from wsd.supervisor.processes.slot import SlotState
from wsd.supervisor.services.nginx_config import worker_processes
from wsd.worker.contract.relay_status import RelayStatus
from wsd.worker.contract.sentinels.sentinels import Sentinels

OLD_SECONDS = 30.0
"""How long a row of the outbox may wait. A long transaction of the application counts from its begin."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, as a line for people, with a key that stays the same while the line changes.

    `crashes` says how many times a process has just ended. An urgent problem does not end by itself.
    """

    key: str
    text: str
    crashes: int = 0
    is_urgent: bool = False


def by_text(text: str) -> Problem:
    """Return a problem whose key is its text without figures. `1 day` and `2 days` make the same key."""
    return Problem(re.sub(r"[0-9]+", "#", re.sub(r"\b1 (\w+)", r"1 \1s", text)), text)


def problems(cluster: Cluster) -> Iterator[Problem]:
    """Yield why the cluster is not healthy."""
    yield from map(by_text, cluster.notices)
    watch = cluster.redis_watch
    if watch is not None and watch.error is not None:
        yield Problem("redis", redis_problem(watch.error, has_fallback=bool(cluster.fallback_url)))
    if watch is not None and watch.other_holder is not None:
        yield Problem("node id", f'node id "{cluster.loaded.node_id}" is live on {watch.other_holder}, too')
    if (outbox := _outbox_problem(cluster)) is not None:
        yield outbox
    if (archive := _archive_problem(cluster)) is not None:
        yield archive
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
            yield Problem(slot.name, text, is_urgent=slot.state is SlotState.FAILED)
        elif (silence := _silence(child, cluster)) is not None:
            text = f"{slot.name} has sent no heartbeat for {silence:.0f} s: `wsd restart {slot.name.partition('-')[2]}`"
            yield Problem(slot.name, text)
        elif watch is not None and watch.error is None and beat is not None and not beat.redis:
            yield Problem(f"{slot.name} redis", f"{slot.name} cannot reach Redis")


def _relay_status(cluster: Cluster) -> RelayStatus | None:
    """Return what the relay says, or None for one that is absent or not ready."""
    relay = cluster.relay
    return relay.service.status if relay is not None and relay.slot.ready else None


def _outbox_problem(cluster: Cluster) -> Problem | None:
    """Say why the rows of the outbox are not published, or that they wait for too long."""
    if (status := _relay_status(cluster)) is None:
        return None
    if status.problem:
        return Problem("outbox", f"the outbox is not published: {status.problem}")
    if status.active and status.oldest_seconds > OLD_SECONDS:
        waiting = f"{count(status.waiting, 'row')} of the outbox wait"
        return Problem("outbox", f"{waiting}, the next one for {status.oldest_seconds:.0f} s")
    return None


def _archive_problem(cluster: Cluster) -> Problem | None:
    """Say why messages are not archived, or that they wait for too long."""
    if (status := _relay_status(cluster)) is None:
        return None
    if status.archive_problem:
        return Problem("archive", f"messages are not archived: {status.archive_problem}")
    if status.archive_active and status.archive_oldest_seconds > OLD_SECONDS:
        waiting = f"{count(status.archive_waiting, 'channel')} wait to be archived"
        return Problem("archive", f"{waiting}, the first for {status.archive_oldest_seconds:.0f} s")
    return None


def redis_problem(error: RedisUnusableError, *, has_fallback: bool) -> str:
    """Say why Redis cannot be used, and where messages go meanwhile."""
    if error.stores_nothing:
        return f"{error.summary}; messages that are to be stored reach nobody: {error}"
    return f"{error.summary}, messages stay on {'this node' if has_fallback else 'their worker'}: {error}"


def sentinels_warning(sentinels: Sentinels) -> str:
    """Say which Sentinels do not answer, or return ""."""
    failures, listed = sentinels.failures, len(sentinels.places)
    if not failures:
        return ""
    consequence = "a failover would go unnoticed" if len(failures) == listed else "start them again"
    reasons = "; ".join(map(str, failures.values()))
    return f"{len(failures)} of {count(listed, 'Sentinel')} do not answer, {consequence}: {reasons}"


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
        yield Problem("connections", text)
    pulses = [child.pulse for child in cluster.workers if child.pulse is not None]
    if text := refusals_warning((pulse.refused_at for pulse in pulses), cluster.clock.now()):
        yield by_text(text)
    if cluster.certificates is not None:
        yield from map(by_text, cluster.certificates.warnings())
    relay = cluster.relay
    if relay is not None and relay.service.status is not None and (failed := relay.service.status.set_aside):
        table = cluster.config.postgres.table
        text = f"{count(failed, 'row')} of {table} cannot be published: see the column error, and docs/postgres.md"
        yield Problem("outbox rows", text)
    scale = cluster.config.scale
    if scale.max and cluster.scaling.is_overloaded:
        text = f"the load needs more than {count(scale.max, 'worker')}, which is scale.max: raise it, or add a node"
        yield Problem("autoscaling", text)
    if relay is not None and relay.service.status is not None and (lost := relay.service.status.archive_lost):
        text = f"{count(lost, 'message')} expired before they were archived: see `wsd archive`, and docs/postgres.md"
        yield Problem("archive holes", text)
    watch = cluster.redis_watch
    if watch is not None:
        if watch.sentinels is not None and (text := sentinels_warning(watch.sentinels)):
            yield Problem("sentinels", text)
        if text := redis_disk_warning(watch.info):
            yield Problem("redis disk", text)
        if text := redis_memory_warning(watch.info, embedded=not cluster.config.redis.url):
            yield Problem("redis memory", text)
    root = cluster.state_dir.root
    with suppress(OSError):  # somebody has removed the directory, which is made again
        disk = disk_space(shutil.disk_usage(root).free, quoting.encodable(root))
        if disk.grade is not Grade.OK:
            yield Problem("disk", f"{disk.found}: {disk.remedy}")


def unknown(cluster: Cluster, *, is_busy: bool) -> Iterator[str]:
    """Yield the keys of problems of which nothing can be said at present: whether they are there or not.

    `is_busy` tells that an operation is under way, which leaves slots unready on purpose.
    """
    watch = cluster.redis_watch
    is_redis_away = watch is not None and watch.error is not None
    for child in cluster.children:
        slot = child.slot
        if slot.state is SlotState.STOPPED and slot.name in cluster.children.drained:
            continue  # `wsd drain` has emptied it, and its problems with it
        if is_busy and not slot.ready:
            yield slot.name
        has_beat = child.pulse is not None and child.pulse.beat is not None
        if is_redis_away or not (slot.ready and has_beat) or _silence(child, cluster) is not None:
            yield f"{slot.name} redis"
    if cluster.scaling.waits_for is not None:
        yield "autoscaling"
    if is_redis_away:
        yield from ("redis disk", "redis memory")
    if is_busy:
        yield "connections"


def connections_possible_now(cluster: Cluster) -> int:
    """Return how many connections the workers that are ready can hold, together."""
    workers = sum(child.slot.ready for child in cluster.workers)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # the processes have inherited our limit
    config = cluster.config
    processes = worker_processes(config) if cluster.nginx is not None else 0
    return connections_possible(workers, files, processes, config.nginx.worker_connections)
