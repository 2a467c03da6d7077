"""Fails to start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    raise RuntimeError("no database")
    yield  # type: ignore[unreachable]


app = Starlette(lifespan=lifespan)
