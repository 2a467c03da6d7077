"""The worker: one process a slot, serving WebSockets whose messages cross workers and nodes.

Kept lazy, so that the supervisor can read `wsd.worker.contract` without loading Starlette or redis.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd.worker.compat import get_websocket_manager
    from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
    from wsd.worker.security.authentication import Identity
    from wsd.worker.websocket_middleware import WebSocketMiddleware

__all__ = ["DistributedWebSocketManager", "Identity", "WebSocketMiddleware", "get_websocket_manager"]

_HOMES = {
    "DistributedWebSocketManager": "manager.websocket_manager",
    "Identity": "security.authentication",
    "WebSocketMiddleware": "websocket_middleware",
    "get_websocket_manager": "compat",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
