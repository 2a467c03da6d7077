"""`wsd bench`."""

from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, JsonOption, StateDirOption, find_state_dir


def bench(
    connections: Annotated[
        int, typer.Option(metavar="N", min=1, max=60_000, help="Number of WebSocket connections")
    ] = 500,
    rate: Annotated[
        float, typer.Option(metavar="N", min=0.1, max=100_000, help="Messages per second, in total")
    ] = 20.0,
    payload: Annotated[int, typer.Option(metavar="BYTES", min=0, max=60_000, help="Size of a message's data")] = 128,
    channels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of channels; a connection joins one of them")
    ] = 1,
    duration: Annotated[float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds of publishing")] = 10.0,
    token: Annotated[str, typer.Option(metavar="TOKEN", help="Bearer token, if the hub requires one")] = "",
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put load on the running cluster and measure it.

    Connects clients through nginx, subscribes them and publishes messages at a constant rate. Reports how many
    deliveries arrived, their latency from the time at which a message was due, errors, and the CPU time of workers,
    nginx and Valkey per delivery. The cluster must serve the built-in hub.

    Exit code 0: everything was delivered, without errors. Exit code 1: it was not.

    Example: wsd bench --connections 2000 --channels 100 --rate 200
    """
    from wsd.supervisor.bench import report  # noqa: PLC0415
    from wsd.supervisor.bench.run import BenchSettings  # noqa: PLC0415

    settings = BenchSettings(connections, rate, payload, channels, duration, token)
    raise typer.Exit(report.run_and_report(find_state_dir(config, state_dir), settings, as_json=as_json))
