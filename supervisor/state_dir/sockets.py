"""The unix sockets of a cluster: where they are, whether they are still there, and whether anybody listens on them."""

import hashlib
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from wsd.supervisor import quoting

MAX_SOCKET_PATH = 107
"""Bytes that sockaddr_un.sun_path holds before its final zero (unix(7))."""

LONGEST_SOCKET_NAME = "worker-999.99999999.sock"


@dataclass(frozen=True)
class BoundSocket:
    """The file by which a socket is found, with its inode at the time the socket was bound.

    The inode tells whether the file was removed or replaced since then.
    """

    path: Path
    inode: int | None
    """None when there was no file already then."""

    @classmethod
    def at(cls, path: Path) -> Self:
        return cls(path, _inode(path))

    @property
    def is_there(self) -> bool:
        return self.inode is not None and _inode(self.path) == self.inode


def socket_directory(root: Path) -> Path:
    """Return the directory for the sockets of the state directory `root`.

    It is `run/` in the state directory, or else a directory whose name follows from the path of the state directory:
    where that path is too long for a socket, or has characters that mean something in a URL or a configuration.
    So no program that is given the address of a socket has to escape it.
    """
    preferred = root / "run"
    if _can_hold_sockets(preferred):
        return preferred
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    short = base / f"wsd-{os.geteuid()}-{digest}"
    if not _can_hold_sockets(short):
        short = Path("/tmp") / short.name  # noqa: S108 - StateDir.check refuses a directory that is not ours
    return short


def remove_dead_sockets(directory: Path) -> None:
    """Remove the sockets on which nobody listens."""
    for path in directory.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except BlockingIOError:
                continue  # the backlog is full, so there is a listener
            except OSError:
                with suppress(OSError):  # a directory in its place; whoever binds the socket reports that
                    path.unlink(missing_ok=True)


def _can_hold_sockets(directory: Path) -> bool:
    longest = str(directory / LONGEST_SOCKET_NAME)
    return len(os.fsencode(longest)) <= MAX_SOCKET_PATH and quoting.PLAIN.fullmatch(longest) is not None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
