"""Keep the open problems of a ledger in a file, for the next supervisor."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from wsd.supervisor.alerts.ledger import OpenProblem
from wsd.supervisor.machine.private_files import write_private


def read_open(path: Path, now: float) -> list[OpenProblem]:
    """Return the open problems in a file. A file that is not there, or makes no sense, holds none.

    `now` is the time of the ledger's clock, in seconds.
    """
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=list[OpenProblem])
    except (OSError, msgspec.DecodeError):
        return []
    return _moved(kept, now - time.time())


def write_open(path: Path, problems: Sequence[OpenProblem], now: float) -> None:
    """Replace the file, or remove it when there are no open problems. `now` is as for `read_open`. Raises OSError."""
    if problems:
        write_private(path, msgspec.json.encode(_moved(problems, time.time() - now)).decode())
    else:
        path.unlink(missing_ok=True)


def _moved(problems: Sequence[OpenProblem], seconds: float) -> list[OpenProblem]:
    """Convert times between the ledger's clock and seconds since the epoch: no clock of a process outlives it."""
    return [msgspec.structs.replace(each, since=each.since + seconds) for each in problems]
