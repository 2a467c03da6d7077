"""`wsd dev`."""

from pathlib import Path
from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, load_settings
from wsd.supervisor.errors import ConfigError


def dev(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:ATTR", show_default=False, help="Your ASGI app or app factory (default: the built-in hub)"
        ),
    ] = None,
    workers: Annotated[
        str, typer.Option("--workers", metavar="N", help="1 or 2 workers, which share one process and its memory")
    ] = "1",
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on (default: 127.0.0.1)")
    ] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on (default: 8000)")] = None,
    reload_dirs: Annotated[
        list[Path] | None,
        typer.Option(
            "--reload-dir", metavar="DIR", help="Watch *.py here instead of in the current directory; repeatable"
        ),
    ] = None,
    no_reload: Annotated[bool, typer.Option("--no-reload", help="Do not watch files")] = False,
) -> None:
    """Serve an application while you write it, in memory.

    It needs neither nginx nor Redis. When a file changes, a new process takes over; clients resume there and lose
    nothing. Code that cannot be imported changes nothing: the error is shown, and the old code goes on serving. Ctrl-C
    ends it, and all sessions and messages with it.

    With --workers 2 two clients are on two workers, so that messages go from one worker to the other. Both are in one
    process: they also share the variables of your code, which the workers of `wsd start` do not.

    Example: wsd dev chat:app
    """
    from wsd.supervisor.dev.instance import Instance  # noqa: PLC0415

    if workers not in ("1", "2"):
        raise ConfigError(f'--workers must be 1 or 2 here, got "{workers}"; `wsd start` runs more')
    first = Instance()  # it imports what it needs while this process reads the settings
    from wsd.supervisor.dev.command import run  # noqa: PLC0415

    loaded = load_settings(
        config,
        {
            "MODULE:ATTR": (("cluster", "app"), target),
            "--host": (("cluster", "host"), host),
            "--port": (("cluster", "port"), port),
        },
    )
    run(loaded, config, int(workers), reload_dirs or [], reloads=not no_reload, first=first)
