"""Start or end the relay of a running cluster, as the settings say."""

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.deploys.restart import start_children, stop_children
from wsd.supervisor.errors import CommandError


async def bring_relay(cluster: Cluster, say: Say) -> None:
    """Start a relay that is wanted, and end one that is not. One that stays is left as it is.

    Raises CommandError when it does not become healthy; there is none then.
    """
    children, wanted = cluster.children, cluster.relay_services()
    child = cluster.relay
    if wanted and child is None:
        child = children.add(wanted[0])
        try:
            await start_children(children, [child], say)
        except CommandError:
            children.remove(child)
            raise
    elif not wanted and child is not None:
        await stop_children(children, [child], say)
        children.remove(child)
