"""Calling the application's functions for the events of a queue."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from wsd.worker.errors import RedisUnavailableError
from wsd.worker.hooks.event_queue import Entry, EventQueue
from wsd.worker.hooks.functions import HookFunctions


class FunctionCaller:
    """Calls the functions: for the events of one session one after the other, for those of several side by side."""

    def __init__(self, queue: EventQueue, functions: HookFunctions) -> None:
        self._queue = queue
        self._functions = functions
        self._called: set[str] = set()  # entries that could not be removed from the queue yet

    async def handle(self, entries: Sequence[Entry]) -> None:
        """Call the functions for events, and remove each event once its function has returned or failed."""
        self._called.intersection_update(entry.entry_id for entry in entries)
        sessions: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            sessions[entry.event.session_id].append(entry)
        await asyncio.gather(*map(self._call_in_order, sessions.values()))

    async def _call_in_order(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.entry_id not in self._called:
                await self._functions.tell(entry.event)
                self._called.add(entry.entry_id)
            with suppress(RedisUnavailableError):  # it is read again, and then removed
                await self._queue.remove([entry])
                self._called.discard(entry.entry_id)
