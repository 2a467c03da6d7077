"""The worker: one process a slot, serving WebSockets whose messages cross workers and nodes.

Kept lazy, so that the supervisor can read `wsd.worker.contract` without loading Starlette or redis.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd.worker.websocket_manager import DistributedWebSocketManager
    from wsd.worker.websocket_middleware import WebSocketMiddleware

__all__ = ["DistributedWebSocketManager", "WebSocketMiddleware"]


def __getattr__(name: str) -> Any:
    if name == "DistributedWebSocketManager":
        from wsd.worker.websocket_manager import DistributedWebSocketManager  # noqa: PLC0415

        return DistributedWebSocketManager
    if name == "WebSocketMiddleware":
        from wsd.worker.websocket_middleware import WebSocketMiddleware  # noqa: PLC0415

        return WebSocketMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
