"""`wsd events` and `wsd logs`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsd.supervisor.cli.options import (
    ConfigOption,
    FollowOption,
    JsonOption,
    LastOption,
    SinceOption,
    StateDirOption,
    find_state_dir,
)
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.terminal import say, show_json_line

if TYPE_CHECKING:
    from wsd.supervisor.state_dir.directory import StateDir


def events(
    follow: FollowOption = False,
    since: SinceOption = None,
    last: LastOption = 50,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to the cluster, and why.

    Deaths and restarts of processes, deploys, Redis outages, slow clients that were closed, and more. Events are kept
    when the cluster stops, so no cluster needs to be running.

    Example: wsd events --since 1h
    Example: wsd events -f
    """
    from wsd.supervisor.logs.events import read_events, show_event  # noqa: PLC0415
    from wsd.supervisor.logs.reading import choose  # noqa: PLC0415

    where = find_state_dir(config, state_dir)
    for event in read_events(where.events, choose(since), last, follow=follow):
        if as_json:
            show_json_line(event.to_json())
        else:
            say(show_event(event))


def logs(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SLOT|nginx|valkey|supervisor", help="Processes (default: all)"),
    ] = None,
    follow: FollowOption = False,
    since: SinceOption = None,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Show only lines that match this regular expression")
    ] = None,
    last: LastOption = 100,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
) -> None:
    """Print the logs of all processes, merged by time.

    No cluster needs to be running.

    Example: wsd logs -f 2 nginx
    Example: wsd logs --since 5m --grep 'refused|closed'
    """
    from wsd.supervisor.logs import reading  # noqa: PLC0415
    from wsd.supervisor.logs.prefixes import prefixes, use_colour  # noqa: PLC0415

    paths = _log_files(find_state_dir(config, state_dir), names or [])
    labels = prefixes(paths, colour=use_colour(sys.stdout, os.environ)) if len(paths) > 1 else dict.fromkeys(paths, "")
    for line in reading.lines(paths, reading.choose(since, grep), last, follow=follow):
        say(line.text, prefix=labels[line.name])


def _log_files(where: "StateDir", names: list[str]) -> dict[str, Path]:
    """Return the log files of the named processes, or of all processes if none is named.

    Raises ConfigError for a process without a log, CommandError when there are no logs at all.
    """
    there = {path.stem: path for path in sorted(where.logs.glob("*.log"))}
    if not names:
        if not there:
            raise CommandError(f"there are no logs in {where.logs}")
        return there
    wanted = [f"worker-{name}" if name.isdigit() else name for name in names]
    for name in wanted:
        if name not in there:
            raise ConfigError(f'there is no log of "{name}"; there are logs of: {", ".join(there) or "no process"}')
    return {name: there[name] for name in wanted}
