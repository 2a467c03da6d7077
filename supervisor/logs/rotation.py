"""Rotate logs by size, and keep a limited number of old ones, so that they do not fill the disk."""

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from wsd.supervisor.config.settings import LogConfig

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


def rotate(path: Path, max_bytes: int, backups: int) -> bool:
    """Move the content of a log into `<name>.1`, that of `<name>.1` into `<name>.2`, and so on, if it is too large.

    Returns whether it was. Its writers keep the file open and append to it, so it is copied and truncated. Lines that
    are written between the copy and the truncation are lost. To keep that time short, lines that were written during
    the copy are copied right before the truncation.

    Raises OSError when there is no room for the copy. The log and the old ones are then unchanged.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= max_bytes:
        return False
    with path.open("rb+") as log:
        if backups:
            _keep(log, path, size, backups)
        os.ftruncate(log.fileno(), 0)
    return True


def _keep(log: BinaryIO, path: Path, size: int, backups: int) -> None:
    """Copy a log, and make the copy the newest of the old ones. Raises OSError; then nothing has changed."""
    _check_room(path, size)
    # Readers of logs look for `<name>.*`, and must not find the copy before it is complete.
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb", buffering=0) as copy:
            shutil.copyfileobj(log, copy)
            for number in range(backups, 1, -1):
                older = path.with_name(f"{path.name}.{number - 1}")
                if older.exists():
                    older.rename(path.with_name(f"{path.name}.{number}"))
            temporary.rename(path.with_name(f"{path.name}.1"))
            with suppress(OSError):  # there may be no room for the few lines written during the copy
                shutil.copyfileobj(log, copy)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _check_room(path: Path, size: int) -> None:
    """Raise OSError if a copy would not fit. Trying would use up the last free space, which other writers need."""
    disk = os.statvfs(path)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class Rotation:
    """A rotation of logs that warns once about each log that cannot be rotated."""

    def __init__(self) -> None:
        self._failed: set[Path] = set()

    def look(self, path: Path, settings: LogConfig) -> None:
        """Rotate a log if it is too large."""
        try:
            rotate(path, settings.max_bytes, settings.backups)
        except OSError as exc:  # a full disk must not end a running cluster
            if path not in self._failed:
                logger.warning("cannot rotate %s: %s; it grows until that works again", path, exc.strerror)
            self._failed.add(path)
        else:
            if path in self._failed:
                logger.info("%s can be rotated again", path)
            self._failed.discard(path)


async def rotate_logs(paths: Callable[[], list[Path]], settings: Callable[[], LogConfig]) -> None:
    """Rotate logs that have become too large, by the current settings, until cancelled."""
    rotation = Rotation()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        chosen = settings()
        for path in paths():
            await asyncio.to_thread(rotation.look, path, chosen)
