"""`wsd archive`: the archive of messages in PostgreSQL."""

import re
import sys
from enum import StrEnum
from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, JsonOption, StateDirOption
from wsd.supervisor.cli.requests import ask
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.terminal import say, show_json

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_AGE_SECONDS = 3_153_600_000
"""A hundred years."""


class Action(StrEnum):
    """The actions of `wsd archive`."""

    SHOW = "show"
    PRUNE = "prune"


def archive(
    action: Annotated[Action, typer.Argument(help="Show what there is, or delete old messages")] = Action.SHOW,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="With prune: the age, such as 90d or 12h")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="PATTERN", help='With prune: only channels like "room:*"')
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With prune: do not ask")] = False,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the archive in PostgreSQL, or delete from it.

    Channels with `archive = true` have one. docs/postgres.md tells more.

    Example: wsd archive
    Example: wsd archive prune --older-than 90d --channel 'room:*'
    """
    from wsd.supervisor.cli.archive_output import show_archive  # noqa: PLC0415

    if action is Action.PRUNE:
        _prune(older_than, channel or "*", config, state_dir, is_agreed=yes, as_json=as_json)
        return
    if older_than is not None or channel is not None or yes:
        raise ConfigError("--older-than, --channel and --yes are for `wsd archive prune`")
    answer = ask(config, state_dir, "GET", "/v1/archive")
    if as_json:
        show_json(answer)
    else:
        show_archive(answer)


def _prune(
    older_than: str | None, channel: str, config: str | None, state_dir: str | None, *, is_agreed: bool, as_json: bool
) -> None:
    from wsd.supervisor.counts import count  # noqa: PLC0415

    if older_than is None:
        raise ConfigError("prune needs --older-than, such as 90d")
    wanted = {"older_than_seconds": seconds_of(older_than), "channel": channel}

    def prune(*, is_test: bool) -> int:
        answer = ask(config, state_dir, "POST", "/v1/prune-archive", {**wanted, "is_test": is_test})
        return int(answer["messages"])

    if not is_agreed:
        found = prune(is_test=True)
        if not found:
            say("no messages are as old")
            return
        if not sys.stdin.isatty():
            raise CommandError(f"{count(found, 'message')} would be deleted: add --yes to do so")
        typer.confirm(f"Delete {count(found, 'message')}?", abort=True)
    deleted = 0
    while some := prune(is_test=False):
        deleted += some
    if as_json:
        show_json({"messages": deleted})
    else:
        say(f"deleted {count(deleted, 'message')}")


def seconds_of(age: str) -> int:
    """Return the seconds of an age such as `90d`. Raises ConfigError."""
    found = re.fullmatch(r"([0-9]{1,10})([smhd])", age)
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= seconds <= MAX_AGE_SECONDS:
        raise ConfigError(f'--older-than must be a number with s, m, h or d, such as 90d, got "{age}"')
    return seconds
