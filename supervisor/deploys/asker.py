"""Who asked the supervisor for what it does now: for the events."""

import getpass
import sys
from contextvars import ContextVar

ASKED_BY_HEADER = "X-WSD-Asked-By"

asked_by: ContextVar[str] = ContextVar("asked_by", default="the supervisor")
"""Set where a request or a signal arrives, and read where its event is written."""


def this_command(way: str = "") -> str:
    """Name this command and its user, in the ASCII that a header may have.

    `way`: a key, for example, instead of the command.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry in passwd
        user = "unknown"
    name = way or f"wsd {sys.argv[1] if len(sys.argv) > 1 else ''}".rstrip()
    return f"{name}, user {user}".encode("ascii", "backslashreplace").decode()
