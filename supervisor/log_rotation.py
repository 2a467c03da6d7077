"""Logs that do not fill the disk: by size, with a count of old ones."""

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from wsd.supervisor.config import LogConfig

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


def rotate(path: Path, max_bytes: int, backups: int) -> bool:
    """Move what a log holds into `<name>.1`, that into `<name>.2` and so on, when it is too large; whether it was.

    Its writers keep it open, and append: so it is copied and truncated. What comes between the two is lost, which is
    why the bulk is copied first, and what came meanwhile right before the cut. Raises OSError.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(backups, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number}"))
    with path.open("rb+") as log:
        if backups:
            with path.with_name(f"{path.name}.1").open("wb") as copy:
                shutil.copyfileobj(log, copy)
                copy.flush()
                shutil.copyfileobj(log, copy)
        os.ftruncate(log.fileno(), 0)
    return True


async def rotate_for_ever(paths: Callable[[], list[Path]], settings: Callable[[], LogConfig]) -> None:
    """Look at the size of each of `paths`, again and again, by the settings of that moment."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        chosen = settings()
        for path in paths():
            try:
                await asyncio.to_thread(rotate, path, chosen.max_bytes, chosen.backups)
            except OSError as exc:  # a full disk must not end a cluster that runs
                logger.warning("cannot rotate %s: %s", path, exc)
