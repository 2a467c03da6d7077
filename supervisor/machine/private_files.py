"""Files and directories that belong to this user alone: others may neither have made them nor change them.

A state directory holds keys, and the list of processes that `wsd stop` ends. Whoever can write there is obeyed.
"""

import errno
import os
import pwd
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from wsd.supervisor.errors import ConfigError

MAX_SECRET_BYTES = 1024


def check_directory(path: Path) -> None:
    """Raise ConfigError unless this is a directory of ours that only we can write, or a link of ours to one.

    Raises OSError where there is nothing, or nothing that can be looked at.
    """
    link, found = path.lstat(), path.stat()
    for owner in (link.st_uid, found.st_uid):
        _check_owner(path, owner, "choose another with --state-dir, or run wsd as that user")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is not a directory; remove it, or choose another with --state-dir")
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(
            f"{path} can be written by other users (mode {mode:04o}), and whoever writes there is obeyed: "
            f"look what is in it, and `chmod 700 {path}`"
        )


def make_directory(path: Path) -> None:
    """Make a directory for this user alone.

    A disk that is mounted there is open to all at first (tmpfs has mode 1777): it is closed while it is empty.
    Raises OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_mount() and path.stat().st_uid == os.geteuid() and not any(path.iterdir()):
        path.chmod(0o700)


def open_private(path: Path, flags: int) -> int:
    """Open a file of ours, made with mode 0600 where it may be made, and return its descriptor.

    A link is not followed. Raises ConfigError when the file is somebody else's, and OSError.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(fd)
        _check_owner(path, found.st_uid, "remove it and start again")
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o022:
            raise ConfigError(f"{path} is no file that only we can write; remove it and start again")
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it, without waiting for anybody. Raises OSError, also where it is a FIFO or a device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(fd, "rb")


def append_to(path: Path) -> BinaryIO:
    """Open a file to append to it. Raises OSError, also where it is a FIFO that nobody reads."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    os.set_blocking(fd, True)
    return os.fdopen(fd, "ab")


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, with mode 0600: a reader, or a crash, sees the old one or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)  # of a crash; a link is removed, not followed
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.rename(path)
    except OSError:  # the disk is full, say
        temporary.unlink(missing_ok=True)
        raise


def read_secret(path: Path) -> str:
    """Read a key of ours; empty when there is none. Raises ConfigError when others made it or can read it."""
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}; remove it and start again") from None
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_mode & 0o077:
            raise ConfigError(f"{path} can be read by other users; remove it and start again")
        return file.read(MAX_SECRET_BYTES).decode("utf-8", "replace")


def keep_secret(path: Path) -> str:
    """Read a key of ours, or make it."""
    if secret := read_secret(path):
        return secret
    secret = secrets.token_urlsafe(24)
    write_private(path, secret)
    return secret


def _check_owner(path: Path, uid: int, way_out: str) -> None:
    if uid != os.geteuid():
        raise ConfigError(f"{path} belongs to {_name(uid)}, not to {_name(os.geteuid())}: {way_out}")


def _name(uid: int) -> str:
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"
