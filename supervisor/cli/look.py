"""Commands that show what goes on, or went on."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from wsd.supervisor.cli.options import (
    ConfigOption,
    FollowOption,
    JsonOption,
    LastOption,
    LimitOption,
    OffsetOption,
    SinceOption,
    StateDirOption,
    ask,
    find_state_dir,
)
from wsd.supervisor.errors import CommandError, ConfigError, ExitCode
from wsd.supervisor.machine.terminal import cleaned, say, show_json, show_json_line

if TYPE_CHECKING:
    from wsd.supervisor.state_dir import StateDir


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
        from wsd.supervisor.cli import watch as live  # noqa: PLC0415

        if as_json:
            raise ConfigError("--watch is for people, --json for programs: not both")
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


def sessions(
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Only of this user")] = None,
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who is connected, or may come back, on all nodes.

    The last seen first.

    Example: wsd sessions --user ann
    Example: wsd sessions --offset 50
    """
    from wsd.supervisor.cli import tables as operator_tables  # noqa: PLC0415

    query = urlencode({"offset": offset, "limit": limit, "user": user or ""})
    answer = ask(config, state_dir, "GET", f"/v1/sessions?{query}")
    if as_json:
        show_json(answer)
    else:
        operator_tables.print_sessions(answer, offset)


def channels(
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """The channels that somebody is in, on all nodes.

    The largest first.

    Example: wsd channels --limit 10
    """
    from wsd.supervisor.cli import tables as operator_tables  # noqa: PLC0415

    query = urlencode({"offset": offset, "limit": limit})
    answer = ask(config, state_dir, "GET", f"/v1/channels?{query}")
    if as_json:
        show_json(answer)
    else:
        operator_tables.print_channels(answer)


def trace(
    who: Annotated[str, typer.Argument(metavar="SESSION|USER", help="A session id, or a user id")],
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why was I disconnected? What happened, and who did it.

    A session's connections: workers, channels, who closed them and why. Of those that are connected, and of
    those that ended within websocket.trace_ttl (an hour), on all nodes; what this node's supervisor did around
    their ends stands beside it in parentheses.

    Exit code 1 when nothing is known.

    Example: wsd trace ann
    """
    from wsd.supervisor.cli import trace_lines  # noqa: PLC0415
    from wsd.supervisor.logs import reading as log_lines  # noqa: PLC0415

    answer = ask(config, state_dir, "GET", f"/v1/trace?{urlencode({'who': who})}")
    if as_json:
        show_json(answer)
    elif not answer["sessions"]:
        raise CommandError(f'nothing is known of a session, or a user, called "{who}"')
    else:
        events = list(log_lines.events(find_state_dir(config, state_dir).events, log_lines.choose(), 0, follow=False))
        for line in trace_lines.show(answer["sessions"], events, answer["node_id"]):
            say(line)
    if not answer["sessions"]:
        raise typer.Exit(ExitCode.FAILURE)


def events(
    follow: FollowOption = False,
    since: SinceOption = None,
    last: LastOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """What happened to the cluster, and why.

    Deaths, restarts, deploys, Redis away, slow readers closed. Kept when the cluster stops, so it needs nothing
    running.

    Example: wsd events --since 1h
    Example: wsd events -f
    """
    from wsd.supervisor.logs import reading as log_lines  # noqa: PLC0415

    where = find_state_dir(config, state_dir)
    choice = log_lines.choose(since)
    for event in log_lines.events(where.events, choice, last, follow=follow):
        if as_json:
            show_json_line(event.to_json())
        else:
            say(log_lines.show_event(event))


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
    """What the processes print, merged in the order they did.

    Needs nothing running.

    Example: wsd logs -f 2 nginx
    Example: wsd logs --since 5m --grep 'refused|closed'
    """
    from wsd.supervisor.logs import reading as log_lines  # noqa: PLC0415
    from wsd.supervisor.logs.follow import prefixes, use_colour  # noqa: PLC0415

    paths = _logs(find_state_dir(config, state_dir), names or [])
    labels = prefixes(paths, colour=use_colour(sys.stdout, os.environ)) if len(paths) > 1 else dict.fromkeys(paths, "")
    for line in log_lines.lines(paths, log_lines.choose(since, grep), last, follow=follow):
        say(line.text, prefix=labels[line.name])


def _logs(where: "StateDir", names: list[str]) -> dict[str, Path]:
    """The logs of these processes, of all by default. Raises ConfigError."""
    there = {path.stem: path for path in sorted(where.logs.glob("*.log"))}
    if not names:
        if not there:
            raise CommandError(f"there are no logs in {where.logs}")
        return there
    wanted = [f"worker-{name}" if name.isdigit() else name for name in names]
    for name in wanted:
        if name not in there:
            raise ConfigError(f'there is no log of "{name}", only of {", ".join(there) or "nobody"}')
    return {name: there[name] for name in wanted}
