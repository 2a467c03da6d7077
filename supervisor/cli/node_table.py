"""The table that `wsd status --nodes` prints."""

from collections.abc import Sequence

from rich.text import Text

from wsd.supervisor.cli import fitted_table
from wsd.supervisor.cli.duration import duration
from wsd.supervisor.cli.fitted_table import Column
from wsd.supervisor.cli.status_table import STATE_STYLES
from wsd.supervisor.control.status import NodeStatus
from wsd.supervisor.machine.terminal import console, say, shown

COLUMNS = (
    Column("NODE"),
    Column("STATE"),
    Column("READY", 3, right=True),
    Column("CONNS", 1, right=True),
    Column("SEEN", 4, right=True),
    Column("VERSION", 6),
    Column("HOST", 5),
    Column("URL", 2),
)


def print_nodes(nodes: Sequence[NodeStatus]) -> None:
    if not nodes:
        say("no node can be seen: there is no Redis, or it does not answer")
        return
    fitted_table.print_table(COLUMNS, [_cells(node) for node in nodes])
    for node in nodes:
        for problem in node.problems:
            console().print(Text(shown(f"! {node.node_id}: {problem}"), "yellow"), soft_wrap=True)


def _cells(node: NodeStatus) -> Sequence[str | Text]:
    ready = node.workers if node.ready is None else f"{node.ready}/{node.workers}"
    return (
        f"{node.node_id} (this one)" if node.is_this_node else node.node_id,
        Text(shown(node.state.upper()), style=STATE_STYLES.get(node.state, "red" if node.state == "gone" else "")),
        "-" if node.state == "gone" else str(ready),
        "-" if node.state == "gone" else str(node.connections),
        "now" if node.is_this_node else f"{duration(node.age_seconds)} ago",
        node.version or "-",
        node.host or "-",
        node.websocket_url or "-",
    )
