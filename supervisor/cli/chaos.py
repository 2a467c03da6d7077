"""`wsd chaos`."""

from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, JsonOption, StateDirOption, load_with_state_dir


def chaos(
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed: the same seed gives the same schedule")] = 1,
    duration: Annotated[float, typer.Option(metavar="S", min=11, max=86_400, help="Seconds of load")] = 60.0,
    faults: Annotated[str | None, typer.Option(metavar="A,B", help="Inject only these faults (default: all)")] = None,
    subscribers: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Subscribers, each in all channels")
    ] = 40,
    publishers: Annotated[
        int, typer.Option(metavar="N", min=1, max=50, help="Publishers, each in a channel of its own")
    ] = 4,
    rate: Annotated[
        float, typer.Option(metavar="N", min=0.1, max=100, help="Messages per second from each publisher")
    ] = 25.0,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Clients on all nodes, and faults of all those on this machine")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Inject faults into the running cluster under load.

    Kills, freezes and restarts workers, nginx and the embedded Valkey, and cuts connections, while its own clients
    publish and subscribe. With --nodes, whole nodes of this machine, too; with Sentinels, the primary, too, if it runs
    on this machine. Not for production: it disconnects clients.

    Exit code 0: every acknowledged message was delivered once and in order. Exit code 1: one was not, a fault could
    not be injected, or the cluster was not healthy before or afterwards.

    Example: wsd chaos --duration 120 --faults worker-kill,nginx-kill
    """
    from wsd.supervisor.chaos import report  # noqa: PLC0415
    from wsd.supervisor.chaos.faults import Fault, parse_faults  # noqa: PLC0415
    from wsd.supervisor.chaos.run import ChaosSettings  # noqa: PLC0415

    chosen = parse_faults(faults) if faults is not None else frozenset(Fault)
    settings = ChaosSettings(seed, duration, chosen, publishers, subscribers, rate, nodes)
    raise typer.Exit(report.run_and_report(load_with_state_dir(config, state_dir), settings, as_json=as_json))
