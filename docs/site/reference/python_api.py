"""The pages of the names that applications import, from their docstrings.

What is returned here is only where mkdocstrings is to put the description of each name.
"""

import inspect
import sys
from collections.abc import Iterable, Mapping

import wsd
import wsd.client
import wsd.publisher
import wsd.testing
from docs.site.reference.markdown import page

WSD: Mapping[str, tuple[str, ...]] = {
    "The cluster in an application": ("Cluster", "Client", "ConnectionManager", "WebSocketMiddleware"),
    "What members are sent": (
        "Message",
        "Gap",
        "PresenceChanged",
        "Record",
        "Encode",
        "data_format",
        "hub_format",
        "Sender",
        "Member",
        "Position",
    ),
    "What methods return": (
        "Published",
        "Joined",
        "History",
        "Presence",
        "Session",
        "Sessions",
        "ClusterStatistics",
        "WorkerStatistics",
        "WorkerHealth",
    ),
    "Identities, events and hooks": (
        "Identity",
        "Connected",
        "Disconnected",
        "Subscribed",
        "Unsubscribed",
        "ClientMessage",
        "ClientCall",
        "MessageRefusedError",
    ),
    "Errors": (
        "WsdError",
        "ClientRefusedError",
        "ConnectionEndedError",
        "TooManyConnectionsError",
        "ChannelFullError",
        "InvalidChannelError",
        "InvalidDataError",
        "InvalidPositionError",
        "NotStoredError",
        "RedisUnavailableError",
        "ArchiveUnavailableError",
        "WorkerNotRunningError",
        "EventLoopBlockedError",
        "SyncTimeoutError",
    ),
    "Connections without the cluster object": (
        "get_websocket_manager",
        "DistributedWebSocketManager",
        "Connection",
        "CloseCode",
    ),
}
"""All names of `wsd` but those of `wsd.publisher`, which have a page of their own."""

BEYOND = {"Cluster": ("wsd.worker.application.sync.SyncOperations",)}
"""What is described after a name, because an attribute of it is one."""

NOT_MADE_BY_APPLICATIONS = {"wsd.Client", "wsd.Connection", "wsd.DistributedWebSocketManager", *BEYOND["Cluster"]}
"""Classes whose objects an application gets, so that their constructors are nothing to it."""

RAISED_BY_APPLICATIONS = {"wsd.MessageRefusedError"}
"""Errors that an application raises. It catches all others."""

SHOWN_VALUES = {"wsd.Encode", "wsd.Record", "wsd.client.Message"}
"""Types that are other names for what is made of several types."""

MEMBERS = {
    "wsd.WebSocketMiddleware": ("worker", "manager"),
    "wsd.DistributedWebSocketManager": (
        "worker_id",
        "node_id",
        "connection_count",
        "guest_name",
        "connect",
        "disconnect",
        "join",
        "leave",
        "presence",
        "publish",
        "broadcast",
        "send_to_user",
        "send_to_connection",
        "history",
        "delete_history",
        "sessions",
        "end_sessions",
        "subscribe_user",
        "unsubscribe_user",
        "statistics",
        "cluster_statistics",
    ),
    "wsd.Connection": (
        "identity",
        "session_id",
        "user_id",
        "username",
        "channels",
        "resumed",
        "closing",
        "send",
        "close",
        "pump",
    ),
}
"""The members that are described, of classes that have others for the worker itself."""


def python() -> str:
    """Return the names of `wsd`, by what they are for."""
    parts: list[str] = []
    for title, names in WSD.items():
        parts.append(f"## {title}")
        for name in names:
            parts.append(_description(f"wsd.{name}"))
            parts += map(_description, BEYOND.get(name, ()))
    return page(parts)


def python_client() -> str:
    """Return the names of `wsd.client`, the clients first."""
    return _names("wsd.client", ["WsdClient", "SyncWsdClient"], wsd.client.__all__)


def python_publisher() -> str:
    """Return the names of `wsd.publisher`, the publishers first."""
    return _names("wsd.publisher", ["Publisher", "AsyncPublisher"], wsd.publisher.__all__)


def python_testing() -> str:
    """Return the names of `wsd.testing`."""
    return _names("wsd.testing", ["TestCluster", "AsyncTestCluster"], wsd.testing.__all__)


def _names(package: str, first: list[str], names: Iterable[str]) -> str:
    ordered = first + [name for name in names if name not in first]
    return page(_description(f"{package}.{name}") for name in ordered)


def is_record(value: object) -> bool:
    """Tell whether a name is a class that consists of attributes: a Struct, a dataclass or a TypedDict."""
    return any(hasattr(value, name) for name in ("__struct_fields__", "__dataclass_fields__", "__total__"))


def _description(path: str) -> str:
    options: list[str] = []
    package, _, name = path.rpartition(".")
    value = getattr(sys.modules[package], name)
    is_caught = inspect.isclass(value) and issubclass(value, Exception) and path not in RAISED_BY_APPLICATIONS
    if path in NOT_MADE_BY_APPLICATIONS or is_record(value) or is_caught:
        options.append("merge_init_into_class: false")
    if path in MEMBERS:
        options.append(f"members: [{', '.join(MEMBERS[path])}]")
    if path in SHOWN_VALUES:
        options.append("show_attribute_values: true")
    lines = ["    options:", *(f"      {option}" for option in options)] if options else []
    return "\n".join([f"::: {path}", *lines])
