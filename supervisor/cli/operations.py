"""Commands that change a running cluster: `wsd restart`, `scale`, `rebalance`, `reload`, `drain`, `resume`, `upgrade`.

The supervisor carries them out (`supervisor/deploys/`). A command asks for an operation and shows its progress.
"""

from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, JsonOption, SlotArgument, StateDirOption, find_state_dir
from wsd.supervisor.cli.requests import operate
from wsd.supervisor.machine.terminal import say, show_json

NodeOption = Annotated[
    str | None, typer.Option("--node", metavar="NAME", help="Act on this node (needs cluster.cluster_key)")
]


def restart(
    slots: Annotated[
        list[int] | None, typer.Argument(metavar="SLOT", min=1, help="Slot numbers (default: all)")
    ] = None,
    surge: Annotated[
        bool | None,
        typer.Option(
            "--surge/--one-by-one",
            help="Start all new processes first, or replace slot after slot (default: --surge if memory allows it)",
        ),
    ] = None,
    node: NodeOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace worker processes without losing clients.

    Run it when the code of the application has changed. New processes start beside the old ones and take over once they
    are healthy; the old ones close their connections over cluster.drain_seconds, and clients resume their sessions. No
    handshake fails. With --surge each client moves once; --one-by-one needs less memory.

    Exit code 1: a new process did not become healthy. The old processes keep running.

    Example: wsd restart
    Example: wsd restart 2 3 --one-by-one
    """
    _operate(config, state_dir, "restart", {"slots": slots or [], "surge": surge}, node, as_json=as_json)


def scale(
    workers: Annotated[int, typer.Argument(metavar="N", min=1, max=256, help="New number of workers")],
    node: NodeOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the number of workers of the running cluster.

    To scale down, the workers with the highest slot numbers drain. The new number is kept until the cluster stops; set
    cluster.workers in wsd.toml to keep it for the next start.

    Exit code 1: a new worker did not become healthy. The number of workers is as before.

    Example: wsd scale 6
    """
    _operate(config, state_dir, "scale", {"workers": workers}, node, as_json=as_json)


def rebalance(
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Spread the connections over all nodes (needs cluster.cluster_key)")
    ] = False,
    node: NodeOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Spread the connections evenly over workers, or nodes.

    Workers with more than their share close their oldest connections with code 1012, and those clients resume on
    workers that have fewer. Not possible with nginx.affinity "ip", where a client's address decides its worker.

    With --nodes, each node with more than its share of all connections closes the rest over cluster.drain_seconds, and
    the load balancer sends those clients to the others.

    Example: wsd scale 8 && wsd rebalance
    Example: wsd rebalance --nodes
    """
    if nodes and node is not None:
        raise typer.BadParameter("--nodes concerns all nodes, so it goes without --node")
    _operate(config, state_dir, "rebalance-nodes" if nodes else "rebalance", {}, node, as_json=as_json)


def reload(
    node: NodeOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply changes in wsd.toml to the running cluster.

    nginx is reloaded and workers are replaced if a change concerns them; clients resume their sessions. If a change
    needs a new start, none is applied. SIGHUP to the supervisor does the same.

    Exit code 1: a change was refused, or a worker did not become healthy with the new settings. Nothing has changed.

    Example: wsd reload
    """
    _operate(config, state_dir, "reload", {}, node, as_json=as_json)


def drain(
    slot: SlotArgument,
    node: NodeOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a worker out of service, until `wsd resume`.

    Its clients resume on the other workers.

    Example: wsd drain 3
    """
    _operate(config, state_dir, "drain", {"slot": slot}, node, as_json=as_json)


def resume(
    slot: SlotArgument,
    node: NodeOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a drained worker back into service.

    Example: wsd resume 3
    """
    _operate(config, state_dir, "resume", {"slot": slot}, node, as_json=as_json)


def upgrade(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Replace the supervisor with the installed version.

    Workers, nginx and Valkey keep running. To replace the workers, too, run `wsd restart` afterwards.

    Example: pip install --upgrade wsd-cluster && wsd upgrade && wsd restart
    """
    from wsd.supervisor.control.client import upgrade_and_wait  # noqa: PLC0415

    pid = upgrade_and_wait(find_state_dir(config, state_dir))
    if as_json:
        show_json({"pid": pid})
    else:
        say(f"the supervisor was replaced (pid {pid}); all other processes keep running")


def _operate(
    config: str | None, state_dir: str | None, action: str, body: object, node: str | None, *, as_json: bool
) -> None:
    """Carry out an action on this node, or on the one that is named. Raises CommandError when it fails."""
    if node is None:
        operate(config, state_dir, f"/v1/{action}", body, as_json=as_json)
    else:
        operate(config, state_dir, "/v1/on-node", {"node": node, "action": action, "body": body}, as_json=as_json)
