"""`wsd start` and `wsd stop`."""

import sys
from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, StateDirOption, WorkersOption, find_state_dir, load_settings
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.machine.terminal import say


def start(
    target: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:ATTR", show_default=False, help="Your ASGI app or app factory, same as --app"),
    ] = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:ATTR", help="Your ASGI app or app factory (default: the built-in hub)"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on (default: 127.0.0.1)")
    ] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on (default: 8000)")] = None,
    node_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Unique name of this node (default: the host name)")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Redis or Valkey to use (default: start an embedded Valkey)")
    ] = None,
    state_dir: StateDirOption = None,
    no_nginx: Annotated[bool, typer.Option("--no-nginx", help="Let the workers share the port, without nginx")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; return when the cluster is ready")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the settings and exit")] = False,
) -> None:
    """Start the cluster of this node.

    Runs in the foreground until Ctrl-C, which drains and stops the cluster. A second Ctrl-C stops it at once.

    Example: wsd start chat:app --workers 4 --port 8080
    """
    from wsd.supervisor.launch.detach import start_detached  # noqa: PLC0415
    from wsd.supervisor.launch.foreground import run_in_foreground  # noqa: PLC0415
    from wsd.supervisor.services.relay import check_asyncpg  # noqa: PLC0415

    _check_system()
    if target is not None and application is not None and target != application:
        raise ConfigError(f'two applications are given, "{target}" and --app "{application}": use one of them')
    loaded = load_settings(
        config,
        {
            "--workers": (("cluster", "workers"), workers),
            "MODULE:ATTR" if target else "--app": (("cluster", "app"), target or application),
            "--host": (("cluster", "host"), host),
            "--port": (("cluster", "port"), port),
            "--node-id": (("cluster", "node_id"), node_id),
            "--redis-url": (("redis", "url"), redis_url),
            "--state-dir": (("cluster", "state_dir"), state_dir),
            "--no-nginx": (("nginx", "enabled"), "false" if no_nginx else None),
        },
    )
    check_asyncpg(loaded.config)
    if check:
        say("configuration OK")
        return
    if detach:
        raise typer.Exit(start_detached(loaded, sys.argv[1:]))
    run_in_foreground(loaded)


def _check_system() -> None:
    if sys.platform != "linux":
        raise ConfigError(f"a cluster runs on Linux only, not on {sys.platform}; `wsd dev` serves an application here")


def stop(
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="Seconds to drain (default: cluster.drain_seconds)"),
    ] = None,
) -> None:
    """Drain and stop the cluster.

    Returns when all its processes have ended.

    Exit code 3: no cluster was running.

    Example: wsd stop --timeout 5
    """
    from wsd.supervisor.control import stopping  # noqa: PLC0415

    say(stopping.stop(find_state_dir(config, state_dir), timeout))
