"""The output of `wsd publish`, `wsd history`, `wsd presence` and `wsd tail`."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from wsd.publisher import History, Presence, PublishResult
from wsd.supervisor.cli import fitted_table
from wsd.supervisor.cli.fitted_table import Column
from wsd.supervisor.counts import count
from wsd.supervisor.machine.terminal import say, show_json, show_json_line

MEMBER_COLUMNS = (
    Column("USER", least=12),
    Column("NAME", 1, least=12),
    Column("WORKER", 2),
    Column("NODE", 3, least=8),
)


def show_results(results: Iterable[PublishResult], *, as_json: bool) -> None:
    """Print what became of each message."""
    for result in results:
        _show_result(result, as_json=as_json)


def _show_result(result: PublishResult, *, as_json: bool) -> None:
    if as_json:
        show_json_line(json.dumps(asdict(result)))
    elif result.durable is False or not result.everywhere:
        say(f"accepted for {result.channel}; it reaches other nodes, and is stored, once Redis is back")
    elif result.offset is None:
        say(f"published in {result.channel}")
    else:
        say(f"published in {result.channel} at offset {result.offset} of epoch {result.epoch}")


def show_messages(messages: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    """Print messages, one a line: the offset, the user who sent it, and the data."""
    for message in messages:
        if as_json:
            show_json_line(json.dumps(message))
        else:
            data = json.dumps(message["data"], ensure_ascii=False)
            say(f"{message['offset']}  {message.get('from', {}).get('user_id', '-')}  {data}")


def show_history(found: History, *, is_turned: bool, as_json: bool) -> None:
    """Print a part of a history. `is_turned`: begin with its last message."""
    messages = found.messages[::-1] if is_turned else found.messages
    if as_json:
        show_json(asdict(replace(found, messages=messages)))
    elif messages:
        show_messages(messages, as_json=False)
    else:
        say("no messages")
    if not as_json and found.incomplete:
        say("wsd: the archive does not answer, or has not written all yet: messages may be missing", err=True)
    if not as_json and found.previous:
        say(f"wsd: earlier messages are in the epoch before: --epoch {found.previous}", err=True)


def show_presence(presence: Presence) -> None:
    """Print the members of a channel as a table."""
    members = [(one.user_id, one.username, one.worker_id, one.node_id) for one in presence.members]
    fitted_table.print_table(MEMBER_COLUMNS, members)
    hidden = presence.count - len(members)
    say(count(presence.count, "member") + (f", {hidden} of them not shown" if hidden > 0 else ""))
