"""Clients of the hub in Python: WsdClient for asyncio, SyncWsdClient for everything else.

They keep a client's half of the promise that nothing is lost: they reconnect, resume their session, ask for what they
missed, and send again what was not acknowledged. docs/clients.md is their specification. Of wsd they import only the
root of its errors, and beyond it only `websockets`.
"""

from wsd.client.asyncio_client import WsdClient
from wsd.client.effects import Left, Message, State
from wsd.client.errors import RequestError
from wsd.client.records import Ack, Delivered, History, Member, Position, Presence, Subscribed, User, Waiting
from wsd.client.sync_client import SyncWsdClient

__all__ = [
    "Ack",
    "Delivered",
    "History",
    "Left",
    "Member",
    "Message",
    "Position",
    "Presence",
    "RequestError",
    "State",
    "Subscribed",
    "SyncWsdClient",
    "User",
    "Waiting",
    "WsdClient",
]
