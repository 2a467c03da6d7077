"""Takes 50 seconds to start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    print("starting", flush=True)
    await asyncio.sleep(50)
    yield


app = Starlette(lifespan=lifespan)
