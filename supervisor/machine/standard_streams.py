"""The standard streams of our processes, made safe: they are always open, and accept any text."""

import os
import select
import sys
from contextlib import suppress


def open_standard_streams() -> None:
    """Open the descriptors 0, 1 and 2 on /dev/null if they are closed. Call this before opening anything else.

    Otherwise a socket or a lock file would get such a descriptor, and printed text would be written into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # returns the lowest free number, which is `fd`
            os.set_inheritable(fd, True)
    # Python sets a stream to None if it was closed when the interpreter started.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for fd in (1, 2):
        os.set_blocking(fd, True)  # another program on the same terminal may have made it non-blocking


def encode_everything() -> None:
    """Make the standard streams escape characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def reader_is_gone(fd: int = 1) -> bool:
    """Tell whether the reader of this descriptor is gone, e.g. because `| head` has ended."""
    poll = select.poll()
    poll.register(fd, 0)  # POLLERR and POLLHUP are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def finish_standard_streams() -> None:
    """Flush the standard streams, and discard their buffers if that fails."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            # The interpreter would flush again when it exits, fail again, and change the exit code.
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, fd)
                os.close(null)
