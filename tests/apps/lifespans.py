"""Functions that treat the events of a lifespan in every way that applications do.

Each takes the `receive` and `send` of one lifespan.
"""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Send


async def raises_at_once(receive: Receive, send: Send) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def returns_at_once(receive: Receive, send: Send) -> None:
    return


async def returns_after_the_first_event(receive: Receive, send: Send) -> None:
    await receive()


async def raises_in_startup(receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("no database")


async def cancels_itself_in_startup(receive: Receive, send: Send) -> None:
    await receive()
    raise asyncio.CancelledError


async def exits_in_startup(receive: Receive, send: Send) -> None:
    await receive()
    raise SystemExit("no database")


async def hangs_in_startup(receive: Receive, send: Send) -> None:
    await receive()
    await receive()


async def says_that_startup_failed(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def says_that_startup_failed_and_raises(receive: Receive, send: Send) -> None:
    await says_that_startup_failed(receive, send)
    raise RuntimeError("no database")


async def returns_after_startup(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def raises_after_startup(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    raise RuntimeError("after startup")


async def completes_without_receiving(receive: Receive, send: Send) -> None:
    await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def completes_twice(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    await send({"type": "lifespan.startup.complete"})


async def sends_what_nobody_knows(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


async def knows_lifespan(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def raises_in_shutdown(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    await receive()
    raise RuntimeError("in shutdown")


async def says_that_shutdown_failed(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "a file could not be written"})
    raise RuntimeError("in shutdown")


async def returns_in_shutdown(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    await receive()


async def hangs_in_shutdown(receive: Receive, send: Send) -> None:
    await returns_after_startup(receive, send)
    await receive()
    await receive()


KINDS = [
    raises_at_once,
    returns_at_once,
    returns_after_the_first_event,
    raises_in_startup,
    cancels_itself_in_startup,
    hangs_in_startup,
    says_that_startup_failed,
    says_that_startup_failed_and_raises,
    returns_after_startup,
    raises_after_startup,
    completes_without_receiving,
    completes_twice,
    sends_what_nobody_knows,
    knows_lifespan,
    raises_in_shutdown,
    says_that_shutdown_failed,
    returns_in_shutdown,
    hangs_in_shutdown,
]

Kind = Callable[[Receive, Send], Awaitable[None]]
