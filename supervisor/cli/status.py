"""`wsd status`."""

import json
from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, JsonOption, StateDirOption, find_state_dir
from wsd.supervisor.errors import ConfigError, ExitCode
from wsd.supervisor.machine.terminal import cleaned, show_json


def status(
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show a live view, with keys to restart, scale and drain")
    ] = False,
    nodes: Annotated[bool, typer.Option("--nodes", help="Show all nodes that share the Redis")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Only tell whether the supervisor answers, for a liveness probe")
    ] = False,
) -> None:
    """Show the processes of this node, or all nodes.

    Exit code 0: this node is healthy; with --nodes, all nodes are. 1: it runs, but is degraded. 3: it is not running.
    With --live, 0: the supervisor answers, whatever its workers do. 1: it does not answer within 5 seconds.

    Example: wsd status --watch
    """
    if sum((watch, nodes and not as_json, live, as_json)) > 1:
        raise ConfigError("of --watch, --nodes, --live and --json, only --nodes and --json can be combined")
    if watch:
        from wsd.supervisor.cli import watch as view  # noqa: PLC0415

        view.watch(find_state_dir(config, state_dir))
        return
    if live:
        from wsd.supervisor.control.client import wait_until_alive  # noqa: PLC0415

        wait_until_alive(find_state_dir(config, state_dir))
        return
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.control.client import ControlClient  # noqa: PLC0415
    from wsd.supervisor.control.status import ClusterStatus  # noqa: PLC0415

    answer = json.loads(ControlClient(find_state_dir(config, state_dir)).call("GET", "/v1/status"))
    seen = msgspec.convert(cleaned(answer), ClusterStatus)
    if nodes:
        from wsd.supervisor.cli.node_table import print_nodes  # noqa: PLC0415

        if as_json:
            show_json(answer["nodes"])
        else:
            print_nodes(seen.nodes)
        is_healthy = seen.state == "healthy" and all(node.state == "healthy" for node in seen.nodes)
        raise typer.Exit(ExitCode.OK if is_healthy else ExitCode.FAILURE)
    if as_json:
        show_json(answer)
    else:
        from wsd.supervisor.cli.status_table import print_status  # noqa: PLC0415

        print_status(seen)
    raise typer.Exit(ExitCode.OK if seen.state == "healthy" else ExitCode.FAILURE)
