"""wsd: a WebSocket cluster on one machine or several, started by one command.

Everything that an application imports is here: the connection manager, the middleware, and what the methods of the
manager take, return and raise. A name is loaded when it is first used, so that `import wsd` and the `wsd` command load
neither Starlette nor redis.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd.worker.connection_manager import ConnectionManager
    from wsd.worker.errors import (
        ChannelFullError,
        ConnectionEndedError,
        NotStoredError,
        RedisUnavailableError,
        TooManyConnectionsError,
    )
    from wsd.worker.manager.connection import Connection
    from wsd.worker.manager.publisher import Published
    from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
    from wsd.worker.process_workers import get_websocket_manager
    from wsd.worker.security.authentication import Identity
    from wsd.worker.websocket_middleware import WebSocketMiddleware
    from wsd.worker.wire.close_codes import CloseCode
    from wsd.worker.wire.position import Position

    __version__: str

__all__ = [
    "ChannelFullError",
    "CloseCode",
    "Connection",
    "ConnectionEndedError",
    "ConnectionManager",
    "DistributedWebSocketManager",
    "Identity",
    "NotStoredError",
    "Position",
    "Published",
    "RedisUnavailableError",
    "TooManyConnectionsError",
    "WebSocketMiddleware",
    "__version__",
    "get_websocket_manager",
]

_MODULES = {
    "ChannelFullError": "wsd.worker.errors",
    "CloseCode": "wsd.worker.wire.close_codes",
    "Connection": "wsd.worker.manager.connection",
    "ConnectionEndedError": "wsd.worker.errors",
    "ConnectionManager": "wsd.worker.connection_manager",
    "DistributedWebSocketManager": "wsd.worker.manager.websocket_manager",
    "Identity": "wsd.worker.security.authentication",
    "NotStoredError": "wsd.worker.errors",
    "Position": "wsd.worker.wire.position",
    "Published": "wsd.worker.manager.publisher",
    "RedisUnavailableError": "wsd.worker.errors",
    "TooManyConnectionsError": "wsd.worker.errors",
    "WebSocketMiddleware": "wsd.worker.websocket_middleware",
    "get_websocket_manager": "wsd.worker.process_workers",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("wsd-cluster")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
