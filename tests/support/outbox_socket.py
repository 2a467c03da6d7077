"""A socket that tests control, below a real outbox."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from wsd.worker.delivery.batch import Item, Message
from wsd.worker.delivery.fanout import Render
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet


class Socket:
    """A writer that records what is written. While `full` is set it takes nothing more."""

    def __init__(self, outlet: Outlet, name: str = "s") -> None:
        self.writes: list[list[Any]] = []
        self.full = False
        self.ended: tuple[int, str] | None = None
        self.outbox = Outbox(outlet, self)
        self.outbox.bind(name, "ann", "Ann")
        self.outbox.release()

    def write(self, items: Sequence[Item], sent: int = 0) -> bool:
        self.writes.append([json.loads(m.payload) for item in items for m in item.messages])
        for item in items:
            item.sealed()
        return not self.full

    def end(self, code: int, reason: str) -> None:
        self.ended = (code, reason)

    @property
    def got(self) -> list[Any]:
        return [content for write in self.writes for content in write]

    def reads(self) -> None:
        self.full = False
        self.outbox.drained()


def always(message: Message) -> Render:
    """Return what renders the same message in every dialect."""
    return lambda dialect: message


def payload(content: Any) -> bytes:
    return json.dumps(content).encode()


async def turn() -> None:
    """Wait for an iteration of the event loop and the callbacks that it scheduled."""
    for _ in range(3):
        await asyncio.sleep(0)
