"""Watching the files of an application."""

from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, awatch

from wsd.supervisor.dev.source_files import SourceFiles
from wsd.supervisor.machine.terminal import say

QUIET_MILLISECONDS = 100
"""How long nothing must change before a burst of changes is over, such as those of an editor or of `git checkout`."""


async def bursts(sources: SourceFiles) -> AsyncIterator[set[Path]]:
    """Yield the files that have changed, once for each burst of changes that count."""

    def counts(_change: Change, path: str) -> bool:
        return sources.counts(Path(path))

    polls = None  # the library decides by the system
    while True:
        try:
            async for changes in awatch(
                *sources.watched, watch_filter=counts, step=QUIET_MILLISECONDS, force_polling=polls
            ):
                yield {Path(path) for _, path in changes}
        except OSError as exc:
            if polls:
                raise
            polls = True
            say(f"wsd: warning: the system cannot watch the files ({exc}); looking at them regularly instead", err=True)
