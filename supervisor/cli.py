"""The `wsd` command: reads the command line, shows what comes of it, and is the only place that exits.

What only one command needs is imported in it: `wsd --help` must answer at once.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from wsd.supervisor.errors import ConfigError, ExitCode, WsdError

if TYPE_CHECKING:
    from wsd.supervisor.config import Key, Loaded
    from wsd.supervisor.state_dir import StateDir

app = typer.Typer(
    name="wsd",
    help="One command turns a machine into a WebSocket cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Values are text here and typed by the configuration, so that a wrong one is told in the same words everywhere.
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Default: ./wsd.toml")]
StateDirOption = Annotated[str | None, typer.Option("--state-dir", metavar="DIR", help="Default: .wsd beside wsd.toml")]
WorkersOption = Annotated[str | None, typer.Option("--workers", metavar="N", help="Number of worker processes")]
JsonOption = Annotated[bool, typer.Option("--json", help="The same, for programs")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="And then what comes, until Ctrl-C")]
SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="30s, 5m, 2h, 1d ago, or a time")]
OffsetOption = Annotated[int, typer.Option(metavar="N", min=0, help="Begin after so many")]
LimitOption = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="At most so many")]
LastOption = Annotated[int, typer.Option("--last", "-n", metavar="N", min=0, help="At most so many; 0: all")]
SlotArgument = Annotated[int, typer.Argument(metavar="SLOT", min=1, help="The number in worker-SLOT")]


@app.command()
def start(
    workers: WorkersOption = None,
    config: ConfigOption = None,
    application: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:ATTR", help="Your ASGI app; without it, the built-in hub"),
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

    Example: wsd start --workers 4 --app chat:app --port 8080
    """
    from wsd.supervisor import launch  # noqa: PLC0415

    loaded = _load(
        config,
        {
            "--workers": (("cluster", "workers"), workers),
            "--app": (("cluster", "app"), application),
            "--host": (("cluster", "host"), host),
            "--port": (("cluster", "port"), port),
            "--node-id": (("cluster", "node_id"), node_id),
            "--redis-url": (("redis", "url"), redis_url),
            "--state-dir": (("cluster", "state_dir"), state_dir),
            "--no-nginx": (("nginx", "enabled"), "false" if no_nginx else None),
        },
    )
    if check:
        typer.echo("the settings are good")
        return
    if detach:
        raise typer.Exit(launch.detach(loaded, sys.argv[1:]))
    launch.foreground(loaded)


@app.command()
def status(
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="A live screen, with keys to restart and scale")] = False,
) -> None:
    """Show the cluster's processes.

    Exit code 0: healthy, 1: running but degraded, 3: not running.

    Example: wsd status --watch
    """
    if watch:
        from wsd.supervisor import watch as live  # noqa: PLC0415

        if as_json:
            raise ConfigError("--watch is for people, --json for programs: not both")
        live.watch(_state_dir(config, state_dir))
        return
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.client import ControlClient  # noqa: PLC0415
    from wsd.supervisor.status import ClusterStatus  # noqa: PLC0415

    answer = ControlClient(_state_dir(config, state_dir)).call("GET", "/v1/status")
    seen = msgspec.json.decode(answer, type=ClusterStatus)
    if as_json:
        typer.echo(msgspec.json.format(answer, indent=2).decode())
    else:
        from wsd.supervisor.status_table import print_status  # noqa: PLC0415

        print_status(seen)
    raise typer.Exit(ExitCode.OK if seen.state == "healthy" else ExitCode.FAILURE)


@app.command()
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
    """
    from wsd.supervisor import launch  # noqa: PLC0415

    typer.echo(launch.stop(_state_dir(config, state_dir), timeout))


@app.command()
def restart(
    slots: Annotated[list[int] | None, typer.Argument(metavar="[SLOT]...", min=1, help="Default: all")] = None,
    surge: Annotated[
        bool | None,
        typer.Option(
            "--surge/--one-by-one", help="All new processes first, or slot after slot; default: as memory allows"
        ),
    ] = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the workers' processes: after a change of your code, say. No handshake fails, clients resume.

    New processes start beside the old ones and take over once they are healthy; the old ones close their
    connections over cluster.drain_seconds. With --surge each client moves once; --one-by-one needs less memory.

    Exit code 1: a new process did not become healthy; the old ones go on.

    Example: wsd restart
    Example: wsd restart 2 3 --one-by-one
    """
    _operate(config, state_dir, "/v1/restart", {"slots": slots or [], "surge": surge}, as_json=as_json)


@app.command()
def scale(
    workers: Annotated[int, typer.Argument(metavar="N", min=1, max=256, help="How many workers there are to be")],
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the number of workers, while the cluster runs. Those that go drain, the last first.

    Lasts until the cluster stops; cluster.workers in wsd.toml is for the next start.

    Exit code 1: a new worker did not become healthy; there are as many as before.

    Example: wsd scale 6
    """
    _operate(config, state_dir, "/v1/scale", {"workers": workers}, as_json=as_json)


@app.command()
def rebalance(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Spread the connections evenly over this node's workers: after `wsd scale` has added some, say.

    Workers with more than their share close those that they have longest with 1012, and these clients resume where
    fewer are. Not with nginx.affinity "ip", where a client's address says on which worker it is.

    Example: wsd scale 8 && wsd rebalance
    """
    _operate(config, state_dir, "/v1/rebalance", {}, as_json=as_json)


@app.command()
def reload(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Read wsd.toml again and apply what has changed, without dropping anyone. SIGHUP does the same.

    nginx is reloaded and workers are replaced as far as they are concerned. Settings that only a new start can
    change are refused, and then none is applied.

    Exit code 1: refused, or a worker did not become healthy with the new settings; nothing has changed.

    Example: wsd reload
    """
    _operate(config, state_dir, "/v1/reload", {}, as_json=as_json)


@app.command()
def drain(
    slot: SlotArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a slot out of service: its clients resume on the others, and it stays stopped until `wsd resume`.

    Example: wsd drain 3
    """
    _operate(config, state_dir, "/v1/drain", {"slot": slot}, as_json=as_json)


@app.command()
def resume(
    slot: SlotArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a drained slot back into service.

    Example: wsd resume 3
    """
    _operate(config, state_dir, "/v1/resume", {"slot": slot}, as_json=as_json)


@app.command()
def upgrade(config: ConfigOption = None, state_dir: StateDirOption = None) -> None:
    """Let the supervisor become the version of wsd that is installed now. Workers, nginx and Valkey serve on.

    The workers stay as they are: `wsd restart` replaces them.

    Example: pip install --upgrade wsd-cluster && wsd upgrade && wsd restart
    """
    from wsd.supervisor.client import upgrade_and_wait  # noqa: PLC0415

    pid = upgrade_and_wait(_state_dir(config, state_dir))
    typer.echo(f"supervisor (pid {pid}) is new, everything else goes on")


@app.command()
def sessions(
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Only of this user")] = None,
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who is connected, or may come back: the last seen first, of all nodes.

    Example: wsd sessions --user ann
    Example: wsd sessions --offset 50
    """
    from wsd.supervisor import operator_tables  # noqa: PLC0415

    query = urlencode({"offset": offset, "limit": limit, "user": user or ""})
    answer = _ask(config, state_dir, "GET", f"/v1/sessions?{query}", as_json=as_json)
    if answer is not None:
        operator_tables.print_sessions(answer, offset)


@app.command()
def channels(
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """The channels that somebody is in, on all nodes, the largest first.

    Example: wsd channels --limit 10
    """
    from wsd.supervisor import operator_tables  # noqa: PLC0415

    query = urlencode({"offset": offset, "limit": limit})
    answer = _ask(config, state_dir, "GET", f"/v1/channels?{query}", as_json=as_json)
    if answer is not None:
        operator_tables.print_channels(answer)


@app.command()
def kick(
    who: Annotated[str, typer.Argument(metavar="SESSION|USER", help="A session id, or a user id")],
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a session, or all of a user, on whatever node: closed with 4500, and not resumed.

    Exit code 1 when there is none.

    Example: wsd kick ann
    """
    answer = _ask(config, state_dir, "POST", "/v1/kick", {"who": who}, as_json=as_json)
    ended = answer["sessions"] if answer is not None else []
    for session in ended:
        typer.echo(f"ended session {session['session_id']} of {session['user_id']} on {session['worker_id']}")
    if answer is not None and not ended:
        raise WsdError(f'there is no session, and no user with one, called "{who}"')


@app.command()
def trace(
    who: Annotated[str, typer.Argument(metavar="SESSION|USER", help="A session id, or a user id")],
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why was I disconnected? What happened to a session's connections: workers, channels, who closed them and why.

    Of those that are connected, and of those that ended within websocket.trace_ttl (an hour), on all nodes; what
    this node's supervisor did around their ends stands beside it in parentheses.

    Exit code 1 when nothing is known.

    Example: wsd trace ann
    """
    from wsd.supervisor import log_lines, trace_lines  # noqa: PLC0415

    answer = _ask(config, state_dir, "GET", f"/v1/trace?{urlencode({'who': who})}", as_json=as_json)
    if answer is None:
        return
    if not answer["sessions"]:
        raise WsdError(f'nothing is known of a session, or a user, called "{who}"')
    events = list(log_lines.events(_state_dir(config, state_dir).events, log_lines.choose(), 0, follow=False))
    for line in trace_lines.show(answer["sessions"], events, answer["node_id"]):
        typer.echo(line)


@app.command()
def events(
    follow: FollowOption = False,
    since: SinceOption = None,
    last: LastOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """What happened to the cluster, and why: deaths, restarts, deploys, Redis away, slow readers closed.

    Kept when the cluster stops, so it needs nothing running.

    Example: wsd events --since 1h
    Example: wsd events -f
    """
    from wsd.supervisor import log_lines  # noqa: PLC0415

    where = _state_dir(config, state_dir)
    choice = log_lines.choose(since)
    for event in log_lines.events(where.events, choice, last, follow=follow):
        typer.echo(event.to_json() if as_json else log_lines.show_event(event))


@app.command()
def logs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SLOT|nginx|valkey|supervisor]...", help="Default: all")
    ] = None,
    follow: FollowOption = False,
    since: SinceOption = None,
    grep: Annotated[str | None, typer.Option(metavar="X", help="Only lines with this regular expression")] = None,
    last: LastOption = 100,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """What the processes print, merged in the order they did. Needs nothing running.

    Example: wsd logs -f 2 nginx
    Example: wsd logs --since 5m --grep 'refused|closed'
    """
    from wsd.supervisor import log_lines  # noqa: PLC0415
    from wsd.supervisor.logs import prefixes, use_colour  # noqa: PLC0415

    paths = _logs(_state_dir(config, state_dir), names or [])
    labels = prefixes(paths, colour=use_colour(sys.stdout, os.environ)) if len(paths) > 1 else dict.fromkeys(paths, "")
    for line in log_lines.lines(paths, log_lines.choose(since, grep), last, follow=follow):
        typer.echo(labels[line.name] + line.text)


@app.command()
def doctor(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Check this machine, the settings, Redis and the running cluster, and say what to do.

    Exit code 1: something is broken. Warnings are 0.

    Example: REDIS_URL=redis://cache.internal wsd doctor
    """
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.doctor import Grade, examine  # noqa: PLC0415
    from wsd.supervisor.operator_tables import print_finding  # noqa: PLC0415

    found = []
    for finding in examine(_load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})):
        found.append(finding)
        if not as_json:
            print_finding(finding)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    raise typer.Exit(ExitCode.FAILURE if any(each.grade is Grade.FAILURE for each in found) else ExitCode.OK)


@app.command()
def init(
    systemd: Annotated[bool, typer.Option("--systemd", help="And systemd units: wsd.service, wsd.socket")] = False,
    example: Annotated[bool, typer.Option("--example", help="And chat.py, an application to begin with")] = False,
) -> None:
    """Write a wsd.toml with every setting, its default and what it means, into the current directory.

    Overwrites nothing.

    Example: wsd init --example && wsd start --app chat:app
    """
    from wsd.supervisor import new_files  # noqa: PLC0415

    for path in new_files.write(Path.cwd(), systemd=systemd, example=example):
        typer.echo(f"wrote {path}")


@app.command("render-nginx")
def render_nginx(
    config: ConfigOption = None,
    workers: WorkersOption = None,
    state_dir: StateDirOption = None,
    output: Annotated[str | None, typer.Option(metavar="FILE", help="Default: standard output")] = None,
    check: Annotated[bool, typer.Option("--check", help="Let nginx itself test it (nginx -t)")] = False,
) -> None:
    """Print the nginx configuration that `wsd start` would use. Needs nothing running.

    Example: wsd render-nginx --workers 8 --check --output /etc/nginx/nginx.conf
    """
    from wsd.supervisor import nginx  # noqa: PLC0415

    loaded = _load(
        config,
        {
            "--workers": (("cluster", "workers"), workers),
            "--state-dir": (("cluster", "state_dir"), state_dir),
        },
    )
    text = nginx.render_for(loaded, with_check=check)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, "utf-8")
    except OSError as exc:
        raise WsdError(f"cannot write {output}: {exc.strerror}") from None


@app.command("config")
def show_config(config: ConfigOption = None, state_dir: StateDirOption = None) -> None:
    """Print the effective configuration, and where each value came from."""
    from wsd.supervisor.config import describe  # noqa: PLC0415

    loaded = _load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})
    for line in describe(loaded):
        typer.echo(line)


@app.command()
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
    """Break the running cluster under load, and see whether it loses anything.

    Kills, freezes and restarts workers, nginx and the embedded Valkey, and cuts connections. Not for production: it
    disconnects clients.

    Exit code 0: every acked message came once and in order; 1: not so, or the cluster was not healthy to begin with.
    """
    from wsd.supervisor import chaos_report  # noqa: PLC0415
    from wsd.supervisor.chaos import Settings  # noqa: PLC0415
    from wsd.supervisor.chaos_faults import Fault, parse_faults  # noqa: PLC0415

    chosen = parse_faults(faults) if faults is not None else frozenset(Fault)
    loaded = _load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})
    settings = Settings(seed, duration, chosen, publishers, subscribers, rate)
    raise typer.Exit(chaos_report.run(loaded, settings, as_json=as_json))


@app.command()
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
    """What does this machine hold? Load on the running cluster, through nginx, and what it costs whom.

    Connects, subscribes, publishes at a constant rate, and counts what comes: deliveries, latency from when a
    message was due, errors, and the CPU of workers, nginx and Valkey for each delivery. The built-in hub must serve.

    Exit code 0: everything came; 1: not so.

    Example: wsd bench --connections 2000 --channels 100 --rate 200
    """
    from wsd.supervisor import bench_report  # noqa: PLC0415
    from wsd.supervisor.bench import Settings  # noqa: PLC0415

    settings = Settings(connections, rate, payload, channels, duration, token)
    raise typer.Exit(bench_report.run(_state_dir(config, state_dir), settings, as_json=as_json))


def _operate(config: str | None, state_dir: str | None, target: str, body: object, *, as_json: bool) -> None:
    """Begin an operation of the supervisor and show its progress to the end. Raises WsdError when it fails."""
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.client import ControlClient  # noqa: PLC0415
    from wsd.supervisor.operations import Progress  # noqa: PLC0415

    progress = Progress()
    try:
        for line in ControlClient(_state_dir(config, state_dir)).follow(target, body):
            progress = msgspec.json.decode(line, type=Progress)
            if as_json:
                typer.echo(line.decode().rstrip())
            elif progress.text:
                typer.echo(progress.text)
    except KeyboardInterrupt:
        raise WsdError("it goes on without us; `wsd status` shows how far it is") from None
    if progress.error:
        if as_json:
            raise typer.Exit(ExitCode.FAILURE)
        raise WsdError(progress.error)
    if not progress.done:
        raise WsdError("the supervisor ended meanwhile")


def _ask(
    config: str | None, state_dir: str | None, method: str, target: str, body: object = None, *, as_json: bool
) -> Any:
    """What the cluster answers; None when it was printed as JSON already."""
    from wsd.supervisor.client import ControlClient  # noqa: PLC0415

    answer = json.loads(ControlClient(_state_dir(config, state_dir), timeout=10).call(method, target, body))
    if not as_json:
        return answer
    typer.echo(json.dumps(answer, indent=2))
    return None


def _logs(where: "StateDir", names: list[str]) -> dict[str, Path]:
    """The logs of these processes, of all by default. Raises ConfigError."""
    there = {path.stem: path for path in sorted(where.logs.glob("*.log"))}
    if not names:
        if not there:
            raise WsdError(f"there are no logs in {where.logs}")
        return there
    wanted = [f"worker-{name}" if name.isdigit() else name for name in names]
    for name in wanted:
        if name not in there:
            raise ConfigError(f'there is no log of "{name}", only of {", ".join(there) or "nobody"}')
    return {name: there[name] for name in wanted}


def _load(config: str | None, options: "dict[str, tuple[Key, str | None]]") -> "Loaded":
    from wsd.supervisor.config import Setting, load  # noqa: PLC0415

    given: dict[Key, Setting] = {
        key: Setting(text, name, is_text=True) for name, (key, text) in options.items() if text is not None
    }
    loaded = load(given, os.environ, config)
    for warning in loaded.warnings:
        typer.echo(f"wsd: warning: {warning}", err=True)
    return loaded


def _state_dir(config: str | None, state_dir: str | None) -> "StateDir":
    from wsd.supervisor.state_dir import StateDir  # noqa: PLC0415

    return StateDir(_load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)}).state_dir)


def main() -> None:
    """Run the command line; every error is one line and the right exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(prog_name="wsd", standalone_mode=False)
    except WsdError as exc:
        _fail(str(exc), exc.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.FAILURE
    except Exception as exc:
        # The command line's own errors (unknown option, missing value) know their text and exit code.
        if not hasattr(exc, "format_message"):
            raise
        _fail(f"{exc.format_message()} (see: wsd --help)", ExitCode.USAGE)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.exit(code)


def _fail(message: str, code: ExitCode) -> None:
    typer.echo(f"wsd: {' '.join(message.split())}", err=True)
    sys.exit(code)
