"""Authorization: the application decides what a client may do in a channel.

A broadcast counts as publishing to the channel `broadcast`, a direct message as publishing to the channel `direct`.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Literal

from wsd.worker.background.waiting import raise_if_cancelled
from wsd.worker.logs import get_logger
from wsd.worker.security.authentication import Identity

logger = get_logger(__name__)

AUTHORIZE_SECONDS = 10.0
"""How long an application may take to decide. A client must not wait forever, nor be kept after its end."""

Action = Literal["subscribe", "publish", "presence", "history"]

Authorize = Callable[[Identity, Action, str], bool | Awaitable[bool]]
"""A function of the application, called with identity, action and channel. Also called when a client comes back."""


async def is_allowed(authorize: Authorize | None, identity: Identity, action: Action, channel: str) -> bool:
    """Ask the application. Without a function, everything is allowed. If it fails or takes too long, nothing is."""
    if authorize is None:
        return True
    try:
        async with asyncio.timeout(AUTHORIZE_SECONDS):
            answer = authorize(identity, action, channel)
            return bool(await answer if inspect.isawaitable(answer) else answer)
    except (Exception, asyncio.CancelledError):
        raise_if_cancelled()  # otherwise something that the application awaited was cancelled
        logger.exception("the application's authorization failed")
        return False
