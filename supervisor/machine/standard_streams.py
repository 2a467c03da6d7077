"""The standard streams of our processes: they are there in any case, and take any text."""

import os
import select
import sys
from contextlib import suppress


def open_standard_streams() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed, on /dev/null, before anything else is opened.

    A socket or a lock would get such a number otherwise, and whatever prints would write into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(fd, True)
    # Python has None for a stream that was closed when it began.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for fd in (1, 2):
        os.set_blocking(fd, True)  # another program with the same terminal may have had it otherwise


def encode_everything() -> None:
    """Let the standard streams escape what their encoding does not have, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def reader_is_gone(fd: int = 1) -> bool:
    """Tell whether nobody can read any more what is written to this descriptor: `| head` has ended, say."""
    poll = select.poll()
    poll.register(fd, 0)  # POLLERR and POLLHUP are told in any case
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def finish_standard_streams() -> None:
    """Write what is left to the standard streams, or give it up where it cannot be written."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            # The interpreter tries again at its end, and would make an exit code of its own of the failure.
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, fd)
                os.close(null)
