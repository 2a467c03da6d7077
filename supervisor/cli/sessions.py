"""`wsd sessions`, `wsd channels`, `wsd trace` and `wsd kick`: clients and channels on all nodes."""

from typing import Annotated
from urllib.parse import urlencode

import typer

from wsd.supervisor.cli.options import (
    ConfigOption,
    JsonOption,
    LimitOption,
    OffsetOption,
    StateDirOption,
    WhoArgument,
    find_state_dir,
)
from wsd.supervisor.cli.requests import ask
from wsd.supervisor.errors import CommandError, ExitCode
from wsd.supervisor.machine.terminal import say, show_json


def sessions(
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Show only sessions of this user")] = None,
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List connected and resumable sessions on all nodes.

    The session that was seen last comes first.

    Example: wsd sessions --user ann
    Example: wsd sessions --offset 50
    """
    from wsd.supervisor.cli.session_tables import print_sessions  # noqa: PLC0415

    query = urlencode({"offset": offset, "limit": limit, "user": user or ""})
    answer = ask(config, state_dir, "GET", f"/v1/sessions?{query}")
    if as_json:
        show_json(answer)
    else:
        print_sessions(answer, offset)


def channels(
    offset: OffsetOption = 0,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List channels and their connections on all nodes.

    The largest channel comes first.

    Example: wsd channels --limit 10
    """
    from wsd.supervisor.cli.session_tables import print_channels  # noqa: PLC0415

    query = urlencode({"offset": offset, "limit": limit})
    answer = ask(config, state_dir, "GET", f"/v1/channels?{query}")
    if as_json:
        show_json(answer)
    else:
        print_channels(answer)


def trace(
    who: WhoArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a client was disconnected.

    Lists what happened to the connections of a session, or of all sessions of a user: their workers and channels, who
    closed them, and why. Includes all nodes, and clients that left within websocket.trace_ttl (one hour). Events of
    this node's supervisor around a disconnect are shown in parentheses.

    Exit code 1: nothing is known about this session or user.

    Example: wsd trace ann
    """
    from wsd.supervisor.cli import trace_lines  # noqa: PLC0415
    from wsd.supervisor.logs.events import read_events  # noqa: PLC0415
    from wsd.supervisor.logs.reading import choose  # noqa: PLC0415

    answer = ask(config, state_dir, "GET", f"/v1/trace?{urlencode({'who': who})}")
    if as_json:
        show_json(answer)
    elif not answer["sessions"]:
        raise CommandError(f'nothing is known about a session or user "{who}"')
    else:
        events = list(read_events(find_state_dir(config, state_dir).events, choose(), 0, follow=False))
        for line in trace_lines.session_lines(answer["sessions"], events, answer["node_id"]):
            say(line)
    if not answer["sessions"]:
        raise typer.Exit(ExitCode.FAILURE)


def kick(
    who: WhoArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a session, or all sessions of a user.

    Works on all nodes. The connections are closed with code 4500, and the sessions cannot be resumed.

    Exit code 1: there is no such session or user.

    Example: wsd kick ann
    """
    answer = ask(config, state_dir, "POST", "/v1/kick", {"who": who})
    if as_json:
        show_json(answer)
    elif not answer["sessions"]:
        raise CommandError(f'there is no session "{who}", and no session of a user "{who}"')
    else:
        for session in answer["sessions"]:
            say(f"ended session {session['session_id']} of {session['user_id']} on {session['worker_id']}")
    if not answer["sessions"]:
        raise typer.Exit(ExitCode.FAILURE)
