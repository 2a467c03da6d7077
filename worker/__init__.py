"""The worker: one process a slot, serving WebSockets whose messages cross workers and nodes.

Kept lazy, so that the supervisor can read `wsd.worker.contract` without loading Starlette or redis.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd.worker.websocket_manager import DistributedWebSocketManager

__all__ = ["DistributedWebSocketManager"]


def __getattr__(name: str) -> Any:
    if name == "DistributedWebSocketManager":
        from wsd.worker.websocket_manager import DistributedWebSocketManager  # noqa: PLC0415

        return DistributedWebSocketManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
