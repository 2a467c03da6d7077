"""Logs that do not fill the disk: by size, with a count of old ones."""

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from wsd.supervisor.config.sections import LogConfig

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


def rotate(path: Path, max_bytes: int, backups: int) -> bool:
    """Move what a log holds into `<name>.1`, that into `<name>.2` and so on, when it is too large; whether it was.

    Its writers keep it open, and append: so it is copied and truncated. What comes between the two is lost, which is
    why the bulk is copied first, and what came meanwhile right before the cut.

    Raises OSError when there is no room for the copy; the log and the old ones are then as they were.
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
    """Copy a log, and then make the copy the first of the old ones. Raises OSError, and nothing has changed."""
    _check_room(path, size)
    # The readers of logs look for `<name>.*`, and must not find it before it is whole.
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb", buffering=0) as copy:
            shutil.copyfileobj(log, copy)
            for number in range(backups, 1, -1):
                older = path.with_name(f"{path.name}.{number - 1}")
                if older.exists():
                    older.rename(path.with_name(f"{path.name}.{number}"))
            temporary.rename(path.with_name(f"{path.name}.1"))
            with suppress(OSError):  # of no room for the few lines that came meanwhile
                shutil.copyfileobj(log, copy)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _check_room(path: Path, size: int) -> None:
    """Raise OSError where a copy would not fit: to try would take the last room from those who write meanwhile."""
    disk = os.statvfs(path)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class Rotation:
    """Rotates logs, and tells once of each that cannot be rotated."""

    def __init__(self) -> None:
        self._failed: set[Path] = set()

    def look(self, path: Path, settings: LogConfig) -> None:
        """Rotate a log where it is too large."""
        try:
            rotate(path, settings.max_bytes, settings.backups)
        except OSError as exc:  # a full disk must not end a cluster that runs
            if path not in self._failed:
                logger.warning("cannot rotate %s, it grows until that works again: %s", path, exc.strerror)
            self._failed.add(path)
        else:
            if path in self._failed:
                logger.info("%s can be rotated again", path)
            self._failed.discard(path)


async def rotate_for_ever(paths: Callable[[], list[Path]], settings: Callable[[], LogConfig]) -> None:
    """Look at the size of each of `paths`, again and again, by the settings of that moment."""
    rotation = Rotation()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        chosen = settings()
        for path in paths():
            await asyncio.to_thread(rotation.look, path, chosen)
