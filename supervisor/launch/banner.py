"""The lines that present a cluster once it is up."""

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control.status import ClusterStatus


def banner(cluster: Cluster, status: ClusterStatus, *, is_kept: bool, is_detached: bool) -> list[str]:
    """Return the lines that present a cluster that is up.

    `is_kept` means that they go to a journal that others may read, and so without the dashboard's token.
    `is_detached` means that the supervisor leaves the terminal, where Ctrl-C does not stop it.
    """
    config = cluster.config
    redis = status.redis
    kind = f"embedded Valkey ({redis.url})" if redis.embedded else redis.url or "none: every worker stands alone"
    if redis.url and not redis.reachable:
        kind = f"{redis.url} (not reachable yet)"
    elif redis.primary:
        kind = f"{redis.url}, primary {redis.primary}"
    option = (
        f" --state-dir {status.state_dir}"
        if cluster.loaded.state_dir != (cluster.loaded.here / ".wsd").resolve()
        else ""
    )
    rows = [
        ("open", status.url),
        (
            "WebSocket",
            status.websocket_url if not config.cluster.app else f"as {config.cluster.app} serves it",
        ),
        *([("dashboard", _dashboard(status, is_kept=is_kept))] if status.dashboard_url else []),
        ("workers", f"{len(status.workers)} on node {status.node_id}"),
        ("Redis", kind),
        ("state", status.state_dir),
        ("see", f"wsd status{option}"),
        ("stop", f"wsd stop{option}" if is_detached else f"Ctrl-C, or wsd stop{option}"),
    ]
    lines = [f"  {name:<10} {value}" for name, value in rows]
    return ["", f"wsd is {'up' if not status.problems else 'up, but degraded'}", *lines, ""]


def _dashboard(status: ClusterStatus, *, is_kept: bool) -> str:
    """Return the address of the dashboard, with its token unless the lines are kept."""
    if is_kept and "?" in status.dashboard_url:
        return f"{status.dashboard_url.partition('?')[0]} (`wsd status` shows its token)"
    return status.dashboard_url
