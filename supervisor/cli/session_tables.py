"""The tables that `wsd sessions` and `wsd channels` print."""

import time
from typing import Any

from wsd.supervisor.cli import fitted_table
from wsd.supervisor.cli.duration import duration
from wsd.supervisor.cli.fitted_table import Column
from wsd.supervisor.machine.terminal import say

SESSION_COLUMNS = (
    Column("SESSION"),
    Column("USER", 1, least=12),
    Column("STATE", 2),
    Column("WORKER", 3),
    Column("NODE", 7, least=8),
    Column("AGE", 6),
    Column("SEEN", 4),
    Column("CHANNELS", 5, least=12),
)
CHANNEL_COLUMNS = (Column("CHANNEL", least=20), Column("CONNECTIONS", right=True))


def print_sessions(answer: dict[str, Any], offset: int) -> None:
    now = time.time()
    rows = [
        (
            session["session_id"],
            session["user_id"],
            session["state"],
            session["worker_id"],
            session["node_id"],
            duration(now - session["connected_at"]),
            f"{duration(now - session['last_seen'])} ago",
            " ".join(session["channels"]) or "-",
        )
        for session in answer["sessions"]
    ]
    fitted_table.print_table(SESSION_COLUMNS, rows)
    say(f"sessions {offset + 1} to {offset + len(rows)} of {answer['total']}" if rows else "no sessions")


def print_channels(answer: dict[str, Any]) -> None:
    fitted_table.print_table(CHANNEL_COLUMNS, [(each["name"], str(each["connections"])) for each in answer["channels"]])
    if not answer["complete"]:
        say("incomplete: not all workers answered in time", err=True)
