"""What a client may do in a channel: by the application's own word.

A broadcast is to publish in the channel `broadcast`, a direct message is to publish in the channel `direct`.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Literal

from wsd.worker.authentication import Identity
from wsd.worker.logs import get_logger

logger = get_logger(__name__)

Action = Literal["subscribe", "publish", "presence", "history"]

Authorize = Callable[[Identity, Action, str], bool | Awaitable[bool]]
"""An application's own: asked with identity, action and channel, also again when a client comes back."""


async def is_allowed(authorize: Authorize | None, identity: Identity, action: Action, channel: str) -> bool:
    """Without a function everything is; where it fails, nothing."""
    if authorize is None:
        return True
    try:
        answer = authorize(identity, action, channel)
        return bool(await answer if inspect.isawaitable(answer) else answer)
    except Exception:
        logger.exception("the application's authorization failed")
        return False
