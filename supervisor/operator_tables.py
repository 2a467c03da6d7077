"""`wsd sessions`, `wsd channels` and `wsd doctor` for people."""

import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsd.supervisor.doctor import Finding, Grade
from wsd.supervisor.status_table import MIN_WIDTH, duration

GRADE_STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FAILURE: "bold red"}


def print_sessions(answer: dict[str, Any], offset: int) -> None:
    table = _table("SESSION", "USER", "STATE", "WORKER", "NODE", "AGE", "SEEN", "CHANNELS")
    now = time.time()
    for session in answer["sessions"]:
        table.add_row(
            session["session_id"],
            session["user_id"],
            session["state"],
            session["worker_id"],
            session["node_id"],
            duration(now - session["connected_at"]),
            f"{duration(now - session['last_seen'])} ago",
            " ".join(session["channels"]) or "-",
        )
    _show(table)
    shown = len(answer["sessions"])
    Console(highlight=False).print(f"{offset + 1 if shown else 0} to {offset + shown} of {answer['total']}")


def print_channels(answer: dict[str, Any]) -> None:
    table = _table("CHANNEL", "CONNECTIONS")
    for channel in answer["channels"]:
        table.add_row(channel["name"], str(channel["connections"]))
    _show(table)
    if not answer["complete"]:
        Console(highlight=False, stderr=True).print("not all workers answered in time")


def print_finding(finding: Finding) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        Text.assemble((f"{finding.grade:<8}", GRADE_STYLES[finding.grade]), f"{finding.check}: {finding.found}")
    )
    if finding.remedy:
        console.print(Text(f"        -> {finding.remedy}"))


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _show(table: Table) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, MIN_WIDTH)  # as the status: cut off, it hides what it is for
    console.print(table)
