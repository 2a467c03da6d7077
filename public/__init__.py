"""wsd: a WebSocket cluster on one machine or several, started by one command.

Everything that an application imports is here: the cluster, the connection manager, the middleware, what their methods
take, return and raise, and the publishers for programs that run elsewhere. A name is loaded when it is first used, so
that `import wsd` and the `wsd` command load neither Starlette nor redis.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsd.publisher import AsyncPublisher, Publisher, PublishError, PublishResult
    from wsd.worker.application.client import Client
    from wsd.worker.application.cluster import Cluster
    from wsd.worker.application.connection_manager import ConnectionManager
    from wsd.worker.application.errors import (
        ClientRefusedError,
        EventLoopBlockedError,
        InvalidChannelError,
        InvalidDataError,
        InvalidPositionError,
        SyncTimeoutError,
        WorkerNotRunningError,
    )
    from wsd.worker.application.formats import Encode, data_format, hub_format
    from wsd.worker.application.records import Gap, History, Joined, Message, Presence, Record, Session, Sessions
    from wsd.worker.contract.errors import WsdError
    from wsd.worker.errors import (
        ArchiveUnavailableError,
        ChannelFullError,
        ConnectionEndedError,
        NotStoredError,
        RedisUnavailableError,
        TooManyConnectionsError,
    )
    from wsd.worker.health import WorkerHealth
    from wsd.worker.hooks.records import (
        ClientCall,
        ClientMessage,
        Connected,
        Disconnected,
        MessageRefusedError,
        Subscribed,
        Unsubscribed,
    )
    from wsd.worker.manager.connection import Connection
    from wsd.worker.manager.publisher import Published
    from wsd.worker.manager.statistics import ClusterStatistics, WorkerStatistics
    from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
    from wsd.worker.process_workers import get_websocket_manager
    from wsd.worker.security.authentication import Identity
    from wsd.worker.websocket_middleware import WebSocketMiddleware
    from wsd.worker.wire.close_codes import CloseCode
    from wsd.worker.wire.messages import Member, PresenceChanged, Sender
    from wsd.worker.wire.position import Position

    __version__: str

__all__ = [
    "ArchiveUnavailableError",
    "AsyncPublisher",
    "ChannelFullError",
    "Client",
    "ClientCall",
    "ClientMessage",
    "ClientRefusedError",
    "CloseCode",
    "Cluster",
    "ClusterStatistics",
    "Connected",
    "Connection",
    "ConnectionEndedError",
    "ConnectionManager",
    "Disconnected",
    "DistributedWebSocketManager",
    "Encode",
    "EventLoopBlockedError",
    "Gap",
    "History",
    "Identity",
    "InvalidChannelError",
    "InvalidDataError",
    "InvalidPositionError",
    "Joined",
    "Member",
    "Message",
    "MessageRefusedError",
    "NotStoredError",
    "Position",
    "Presence",
    "PresenceChanged",
    "PublishError",
    "PublishResult",
    "Published",
    "Publisher",
    "Record",
    "RedisUnavailableError",
    "Sender",
    "Session",
    "Sessions",
    "Subscribed",
    "SyncTimeoutError",
    "TooManyConnectionsError",
    "Unsubscribed",
    "WebSocketMiddleware",
    "WorkerHealth",
    "WorkerNotRunningError",
    "WorkerStatistics",
    "WsdError",
    "__version__",
    "data_format",
    "get_websocket_manager",
    "hub_format",
]

_MODULES = {
    "AsyncPublisher": "wsd.publisher",
    "ChannelFullError": "wsd.worker.errors",
    "Client": "wsd.worker.application.client",
    "ClientCall": "wsd.worker.hooks.records",
    "ClientMessage": "wsd.worker.hooks.records",
    "ClientRefusedError": "wsd.worker.application.errors",
    "CloseCode": "wsd.worker.wire.close_codes",
    "Cluster": "wsd.worker.application.cluster",
    "ClusterStatistics": "wsd.worker.manager.statistics",
    "Connected": "wsd.worker.hooks.records",
    "Connection": "wsd.worker.manager.connection",
    "ConnectionEndedError": "wsd.worker.errors",
    "ConnectionManager": "wsd.worker.application.connection_manager",
    "Disconnected": "wsd.worker.hooks.records",
    "DistributedWebSocketManager": "wsd.worker.manager.websocket_manager",
    "Encode": "wsd.worker.application.formats",
    "EventLoopBlockedError": "wsd.worker.application.errors",
    "Gap": "wsd.worker.application.records",
    "History": "wsd.worker.application.records",
    "Identity": "wsd.worker.security.authentication",
    "InvalidChannelError": "wsd.worker.application.errors",
    "InvalidDataError": "wsd.worker.application.errors",
    "InvalidPositionError": "wsd.worker.application.errors",
    "Joined": "wsd.worker.application.records",
    "Member": "wsd.worker.wire.messages",
    "Message": "wsd.worker.application.records",
    "MessageRefusedError": "wsd.worker.hooks.records",
    "ArchiveUnavailableError": "wsd.worker.errors",
    "NotStoredError": "wsd.worker.errors",
    "Position": "wsd.worker.wire.position",
    "Presence": "wsd.worker.application.records",
    "PresenceChanged": "wsd.worker.wire.messages",
    "PublishError": "wsd.publisher",
    "PublishResult": "wsd.publisher",
    "Published": "wsd.worker.manager.publisher",
    "Publisher": "wsd.publisher",
    "Record": "wsd.worker.application.records",
    "RedisUnavailableError": "wsd.worker.errors",
    "Sender": "wsd.worker.wire.messages",
    "Session": "wsd.worker.application.records",
    "Sessions": "wsd.worker.application.records",
    "Subscribed": "wsd.worker.hooks.records",
    "SyncTimeoutError": "wsd.worker.application.errors",
    "TooManyConnectionsError": "wsd.worker.errors",
    "Unsubscribed": "wsd.worker.hooks.records",
    "WebSocketMiddleware": "wsd.worker.websocket_middleware",
    "WorkerHealth": "wsd.worker.health",
    "WorkerNotRunningError": "wsd.worker.application.errors",
    "WorkerStatistics": "wsd.worker.manager.statistics",
    "WsdError": "wsd.worker.contract.errors",
    "data_format": "wsd.worker.application.formats",
    "get_websocket_manager": "wsd.worker.process_workers",
    "hub_format": "wsd.worker.application.formats",
}


if not TYPE_CHECKING:  # a type checker that sees this function accepts every name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("wsd-cluster")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
