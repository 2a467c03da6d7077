"""The `wsd` command: reads the command line, shows what comes of it, and is the only place that exits.

What only one command needs is imported in it: `wsd --help` must answer at once.
"""

import contextlib
import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from wsd.supervisor.cli import look as cli_look
from wsd.supervisor.cli import operate as cli_operate
from wsd.supervisor.cli.options import ConfigOption, JsonOption, StateDirOption, WorkersOption, find_state_dir, load
from wsd.supervisor.errors import CommandError, ConfigError, ExitCode
from wsd.supervisor.machine.standard_streams import (
    encode_everything,
    finish_standard_streams,
    open_standard_streams,
    reader_is_gone,
)
from wsd.supervisor.machine.terminal import say, show_file, show_json, show_traceback


def start(
    target: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:ATTR", show_default=False, help="Your ASGI app or its factory, as with --app"),
    ] = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:ATTR", help="Your ASGI app or its factory; default: the built-in hub"),
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Default: 127.0.0.1")] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help="Default: 8000")] = None,
    node_id: Annotated[str | None, typer.Option(metavar="ID", help="Default: the host name")] = None,
    redis_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Redis or Valkey; without it, an embedded Valkey")
    ] = None,
    state_dir: StateDirOption = None,
    no_nginx: Annotated[bool, typer.Option("--no-nginx", help="Workers share the port themselves")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return when the cluster is ready")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the settings are good")] = False,
) -> None:
    """Start the cluster of this node.

    In the foreground until Ctrl-C, which drains and stops all; a second Ctrl-C stops at once.

    Example: wsd start chat:app --workers 4 --port 8080
    """
    from wsd.supervisor import launch  # noqa: PLC0415

    if target is not None and application is not None and target != application:
        raise ConfigError(f'the application is named twice, as "{target}" and by --app "{application}": leave one out')
    loaded = load(
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
    if check:
        say("the settings are good")
        return
    if detach:
        raise typer.Exit(launch.detach(loaded, sys.argv[1:]))
    launch.foreground(loaded)


def stop(
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="Seconds for the drain; default: cluster.drain_seconds"),
    ] = None,
) -> None:
    """Drain and stop the cluster; returns when it is gone.

    Exit code 3 when none was running.

    Example: wsd stop --timeout 5
    """
    from wsd.supervisor import launch  # noqa: PLC0415

    say(launch.stop(find_state_dir(config, state_dir), timeout))


def doctor(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Check the machine, settings, Redis and the cluster.

    Each finding says what to do about it.

    Exit code 1: something is broken. Warnings are 0.

    Example: REDIS_URL=redis://cache.internal wsd doctor
    """
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.cli.tables import print_finding  # noqa: PLC0415
    from wsd.supervisor.doctor.checks import examine  # noqa: PLC0415
    from wsd.supervisor.monitoring.finding import Grade  # noqa: PLC0415

    found = []
    for finding in examine(load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})):
        found.append(finding)
        if not as_json:
            print_finding(finding)
    if as_json:
        show_json(msgspec.to_builtins(found))
    raise typer.Exit(ExitCode.FAILURE if any(each.grade is Grade.FAILURE for each in found) else ExitCode.OK)


def init(
    systemd: Annotated[bool, typer.Option("--systemd", help="And systemd units: wsd.service, wsd.socket")] = False,
    example: Annotated[bool, typer.Option("--example", help="And chat.py, an application to begin with")] = False,
) -> None:
    """Write a wsd.toml with every setting and its default.

    Into the current directory. Overwrites nothing.

    Example: wsd init --example && wsd start --app chat:app
    """
    from wsd.supervisor import new_files  # noqa: PLC0415
    from wsd.supervisor.config.loading import current_directory  # noqa: PLC0415

    for path in new_files.write(current_directory(os.environ), systemd=systemd, example=example):
        say(f"wrote {path}")


def render_nginx(
    config: ConfigOption = None,
    workers: WorkersOption = None,
    state_dir: StateDirOption = None,
    output: Annotated[str | None, typer.Option(metavar="FILE", help="Default: standard output")] = None,
    check: Annotated[bool, typer.Option("--check", help="Let nginx itself test it (nginx -t)")] = False,
) -> None:
    """Print the nginx configuration of `wsd start`.

    Needs nothing running.

    Example: wsd render-nginx --workers 8 --check --output /etc/nginx/nginx.conf
    """
    from wsd.supervisor.services import nginx  # noqa: PLC0415

    loaded = load(
        config,
        {
            "--workers": (("cluster", "workers"), workers),
            "--state-dir": (("cluster", "state_dir"), state_dir),
        },
    )
    text = nginx.render_for(loaded, with_check=check)
    if output is None:
        show_file(text)
        return
    try:
        Path(output).write_text(text, "utf-8")
    except OSError as exc:
        raise CommandError(f"cannot write {output}: {exc.strerror}") from None


def config(config: ConfigOption = None, state_dir: StateDirOption = None) -> None:
    """Print the settings that hold, and where they come from.

    Example: WSD_PORT=8080 wsd config
    """
    from wsd.supervisor.config.display import describe  # noqa: PLC0415

    loaded = load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})
    for line in describe(loaded):
        say(line)


def chaos(
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed, the same schedule")] = 1,
    duration: Annotated[float, typer.Option(metavar="S", min=11, max=86_400, help="Seconds of load")] = 60.0,
    faults: Annotated[str | None, typer.Option(metavar="A,B", help="Only these; default: all")] = None,
    subscribers: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Each in all channels")] = 40,
    publishers: Annotated[int, typer.Option(metavar="N", min=1, max=50, help="Each with a channel")] = 4,
    rate: Annotated[float, typer.Option(metavar="N", min=0.1, max=100, help="Messages a second by each")] = 25.0,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict, for programs")] = False,
) -> None:
    """Break the running cluster under load, on purpose.

    Kills, freezes and restarts workers, nginx and the embedded Valkey, and cuts connections. Not for
    production: it disconnects clients.

    Exit code 0: every acked message came once and in order; 1: not so, or the cluster was not healthy to begin
    with.

    Example: wsd chaos --duration 120 --faults worker-kill,nginx-kill
    """
    from wsd.supervisor.chaos import report as chaos_report  # noqa: PLC0415
    from wsd.supervisor.chaos.faults import Fault, parse_faults  # noqa: PLC0415
    from wsd.supervisor.chaos.run import Settings  # noqa: PLC0415

    chosen = parse_faults(faults) if faults is not None else frozenset(Fault)
    loaded = load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})
    settings = Settings(seed, duration, chosen, publishers, subscribers, rate)
    raise typer.Exit(chaos_report.run(loaded, settings, as_json=as_json))


def bench(
    connections: Annotated[int, typer.Option(metavar="N", min=1, max=60_000, help="WebSockets at the same time")] = 500,
    rate: Annotated[float, typer.Option(metavar="N", min=0.1, max=100_000, help="Messages a second, in all")] = 20.0,
    payload: Annotated[int, typer.Option(metavar="BYTES", min=0, max=60_000, help="Of each message's data")] = 128,
    channels: Annotated[int, typer.Option(metavar="N", min=1, help="A connection is in one of them")] = 1,
    duration: Annotated[float, typer.Option(metavar="S", min=0.1, max=3600, help="Seconds of messages")] = 10.0,
    token: Annotated[str, typer.Option(metavar="TOKEN", help="A bearer token, where the hub wants one")] = "",
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """What does this machine hold? Load, and what it costs.

    On the running cluster, through nginx. Connects, subscribes, publishes at a constant rate, and counts what
    comes: deliveries, latency from when a message was due, errors, and the CPU of workers, nginx and Valkey for
    each delivery. The built-in hub must serve.

    Exit code 0: everything came; 1: not so.

    Example: wsd bench --connections 2000 --channels 100 --rate 200
    """
    from wsd.supervisor.bench import report as bench_report  # noqa: PLC0415
    from wsd.supervisor.bench.run import Settings  # noqa: PLC0415

    settings = Settings(connections, rate, payload, channels, duration, token)
    raise typer.Exit(bench_report.run(find_state_dir(config, state_dir), settings, as_json=as_json))


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors of writing to what our output was redirected to."""


def _with_a_reader(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end quietly when nobody reads its output any more, and in one line when it cannot be written."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except OSError as exc:
            if reader_is_gone():
                raise typer.Exit(ExitCode.READER_GONE) from None
            if exc.filename is None and exc.errno in UNWRITABLE:
                raise CommandError(f"cannot write the output: {exc.strerror}") from None
            raise

    return run


def _help(command: Callable[..., None]) -> str:
    """Return the docstring of a command, with its examples on lines of their own.

    click joins the lines of a paragraph, unless it begins with a backspace character.
    """
    text, *examples = inspect.cleandoc(command.__doc__ or "").split("\nExample: ")
    return "\n".join([text.rstrip(), "", "\b", *(f"Example: {example}" for example in examples)])


app = typer.Typer(
    name="wsd",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (
    start,
    cli_look.status,
    stop,
    cli_operate.restart,
    cli_operate.scale,
    cli_operate.rebalance,
    cli_operate.reload,
    cli_operate.drain,
    cli_operate.resume,
    cli_operate.upgrade,
    cli_look.sessions,
    cli_look.channels,
    cli_look.trace,
    cli_operate.kick,
    cli_look.events,
    cli_look.logs,
    doctor,
    bench,
    chaos,
    init,
    render_nginx,
    config,
):
    app.command(help=_help(command))(_with_a_reader(command))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        say(f"wsd {version('wsd-cluster')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version of wsd")
    ] = False,
) -> None:
    """One command turns a machine into a WebSocket cluster."""


def main() -> None:
    """Run the command line; every error is one line and the right exit code."""
    open_standard_streams()
    encode_everything()
    command = typer.main.get_command(app)
    sys.excepthook = show_traceback
    try:
        code = command.main(prog_name="wsd", standalone_mode=False)
    except CommandError as exc:
        _fail(str(exc), exc.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.FAILURE
    except Exception as exc:
        # The command line's own errors (unknown option, missing value) know their text and exit code.
        if not hasattr(exc, "format_message"):
            raise
        _fail(f"{exc.format_message()} (see: wsd --help)", ExitCode.USAGE)
    finish_standard_streams()
    sys.exit(code)


def _fail(message: str, code: ExitCode) -> None:
    with contextlib.suppress(OSError):
        say(f"wsd: {' '.join(message.split())}", err=True)
    finish_standard_streams()
    sys.exit(code)
