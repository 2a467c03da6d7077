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
) -> None:
    """Show the processes of the cluster.

    Exit code 0: the cluster is healthy. 1: it runs, but is degraded. 3: it is not running.

    Example: wsd status --watch
    """
    if watch:
        from wsd.supervisor.cli import watch as live  # noqa: PLC0415

        if as_json:
            raise ConfigError("--watch and --json cannot be combined")
        live.watch(find_state_dir(config, state_dir))
        return
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.control.client import ControlClient  # noqa: PLC0415
    from wsd.supervisor.control.status import ClusterStatus  # noqa: PLC0415

    answer = json.loads(ControlClient(find_state_dir(config, state_dir)).call("GET", "/v1/status"))
    seen = msgspec.convert(cleaned(answer), ClusterStatus)
    if as_json:
        show_json(answer)
    else:
        from wsd.supervisor.cli.status_table import print_status  # noqa: PLC0415

        print_status(seen)
    raise typer.Exit(ExitCode.OK if seen.state == "healthy" else ExitCode.FAILURE)
