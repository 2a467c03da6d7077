"""What a client may do in a channel: by the application's own word.

A broadcast is to publish in the channel `broadcast`, a direct message is to publish in the channel `direct`.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Literal

from wsd.worker.logs import get_logger
from wsd.worker.security.authentication import Identity
from wsd.worker.waiting import raise_if_cancelled

logger = get_logger(__name__)

AUTHORIZE_SECONDS = 10.0
"""How long an application may take to answer. A client must not wait for ever, nor be kept after its end."""

Action = Literal["subscribe", "publish", "presence", "history"]

Authorize = Callable[[Identity, Action, str], bool | Awaitable[bool]]
"""An application's own: asked with identity, action and channel, also again when a client comes back."""


async def is_allowed(authorize: Authorize | None, identity: Identity, action: Action, channel: str) -> bool:
    """Ask the application. Without a function everything is allowed; where it fails or is late, nothing."""
    if authorize is None:
        return True
    try:
        async with asyncio.timeout(AUTHORIZE_SECONDS):
            answer = authorize(identity, action, channel)
            return bool(await answer if inspect.isawaitable(answer) else answer)
    except (Exception, asyncio.CancelledError):
        raise_if_cancelled()  # else what the application waited for was cancelled
        logger.exception("the application's authorization failed")
        return False
