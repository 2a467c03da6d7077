"""Files and directories that only our own user may have created and may change.

A state directory holds keys, and the list of processes that `wsd stop` ends. Whoever can write there controls wsd.
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
    """Check that a path is a directory that belongs to our user and only our user can write to.

    It may be a symbolic link, if that belongs to our user, too. Raises ConfigError if the check fails, and OSError if
    the path does not exist or cannot be examined.
    """
    link, found = path.lstat(), path.stat()
    for owner in (link.st_uid, found.st_uid):
        _check_owner(path, owner, "choose another with --state-dir, or run wsd as that user")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is not a directory; remove it, or choose another with --state-dir")
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(
            f"{path} can be written by other users (mode {mode:04o}), who could control wsd through it: "
            f"check what is in it, then `chmod 700 {path}`"
        )


def make_directory(path: Path) -> None:
    """Create a directory that only our user can access.

    If a file system is mounted there, anybody may be able to write to it at first (a tmpfs has mode 1777). Its mode is
    changed as long as it is empty.

    Raises OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_mount() and path.stat().st_uid == os.geteuid() and not any(path.iterdir()):
        path.chmod(0o700)


def open_private(path: Path, flags: int) -> int:
    """Open a file that belongs to our user and only our user can write to, and return its descriptor.

    With O_CREAT it is created with mode 0600. A symbolic link is not followed. Raises ConfigError if the file belongs
    to another user, is no regular file or can be written by others, and OSError.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(fd)
        _check_owner(path, found.st_uid, "remove it and start again")
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o022:
            raise ConfigError(f"{path} is not a regular file that only its owner can write; remove it and start again")
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading without blocking. Raises OSError, also if it is a FIFO or a device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(fd, "rb")


def append_to(path: Path) -> BinaryIO:
    """Open a file for appending. Raises OSError, also if it is a FIFO that has no reader."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    os.set_blocking(fd, True)
    return os.fdopen(fd, "ab")


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, with mode 0600. Readers see either the old or the new text, also after a crash.

    Raises OSError.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)  # left by a crash; a symbolic link is removed, not followed
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.rename(path)
    except OSError:  # e.g. a full disk
        temporary.unlink(missing_ok=True)
        raise


def read_secret(path: Path) -> str:
    """Read a secret key from a file, or return an empty string if there is no file.

    Raises ConfigError if the file belongs to another user or others can read it.
    """
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
    """Read a secret key from a file, or create the file with a new key. Raises ConfigError or OSError."""
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
