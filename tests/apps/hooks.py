"""Functions for the settings `authenticate` and `authorize`."""

import asyncio
from collections.abc import Awaitable

from starlette.types import Scope

from wsd import Identity


async def authenticate(scope: Scope) -> Identity | None:
    """Admit clients with a header X-User, under the name in it.

    The function fails for the user `broken`, and takes a minute for the user `slow`.
    """
    name = dict(scope["headers"]).get(b"x-user", b"").decode()
    if name == "broken":
        raise RuntimeError
    if name == "slow":
        await asyncio.sleep(60)
    return Identity(name) if name else None


def authorize(identity: Identity, action: str, channel: str) -> bool | Awaitable[bool]:
    """Allow subscribing and publishing, except in the channel `secret`. Only root may broadcast, and do all else.

    The function fails for the channel `broken`, and takes three seconds for channels that begin with `slow`.
    """
    if channel.startswith("slow"):
        return asyncio.sleep(3, result=True)
    if channel == "broken":
        raise RuntimeError
    if channel in ("broadcast", "direct") and action == "publish":
        return identity.user_id == "root"
    return channel != "secret" and (action in ("subscribe", "publish") or identity.user_id == "root")
