"""Change the number of workers of a running cluster."""

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.settings import with_workers
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.deploys.restart import start_children, stop_children
from wsd.supervisor.errors import CommandError


async def scale(cluster: Cluster, wanted: int, say: Say) -> None:
    """Change the number of workers to `wanted`.

    New workers serve before nginx knows them. nginx forgets the others before they drain.

    Raises CommandError when a new worker does not become healthy; there are then as many as before.
    """
    now = len(cluster.workers)
    if wanted > now:
        await _add(cluster, range(now + 1, wanted + 1), say)
    leaving = cluster.workers[wanted:]
    cluster.configure(with_workers(cluster.config, wanted))
    await cluster.update_nginx(say)
    if leaving:
        await stop_children(cluster.children, list(reversed(leaving)), say)
        for child in leaving:
            cluster.children.remove(child)
    cluster.children.record()
    say(count(wanted, "worker"))


async def _add(cluster: Cluster, slots: range, say: Say) -> None:
    """Start workers in new slots. Raises CommandError, with none of them left."""
    children = cluster.children
    new = [children.add(cluster.make_worker(slot)) for slot in slots]
    try:
        await start_children(children, new, say)
    except CommandError as exc:
        for child in new:
            children.remove(child)
        raise CommandError(f"{exc}; the cluster has {count(slots.start - 1, 'worker')} as before") from None
