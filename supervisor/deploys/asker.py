"""The name of whoever asked the supervisor for its present work, for the events."""

import getpass
import sys
from contextvars import ContextVar

ASKED_BY_HEADER = "X-WSD-Asked-By"

asked_by: ContextVar[str] = ContextVar("asked_by", default="the supervisor")
"""Set where a request or a signal arrives, and read where the event is written."""


def this_command(way: str = "") -> str:
    """Return the name of this command and of its user, in ASCII, for a header.

    `way` replaces the name of the command: "a key of wsd status --watch", for example.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry in passwd
        user = "unknown"
    name = way or f"wsd {sys.argv[1] if len(sys.argv) > 1 else ''}".rstrip()
    return f"{name}, user {user}".encode("ascii", "backslashreplace").decode()
