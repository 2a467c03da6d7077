"""`wsd sessions`, `wsd channels` and `wsd doctor` for people."""

import time
from typing import Any

from rich.text import Text

from wsd.supervisor.cli import table
from wsd.supervisor.cli.status_table import duration
from wsd.supervisor.cli.table import Column
from wsd.supervisor.machine.terminal import console, say, shown
from wsd.supervisor.monitoring.finding import Finding, Grade

GRADE_STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FAILURE: "bold red"}

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
    table.show(SESSION_COLUMNS, rows)
    say(f"{offset + 1 if rows else 0} to {offset + len(rows)} of {answer['total']}")


def print_channels(answer: dict[str, Any]) -> None:
    table.show(CHANNEL_COLUMNS, [(each["name"], str(each["connections"])) for each in answer["channels"]])
    if not answer["complete"]:
        say("not all workers answered in time", err=True)


def print_finding(finding: Finding) -> None:
    text = shown(f"{finding.check}: {finding.found}")
    console().print(Text.assemble((f"{finding.grade:<8}", GRADE_STYLES[finding.grade]), text), soft_wrap=True)
    if finding.remedy:
        say(f"        -> {finding.remedy}")
