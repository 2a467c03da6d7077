"""Publishing over HTTP from programs that are no clients: a cron job, a task, a Django signal, another service.

`Publisher` is for programs that block, `AsyncPublisher` for asyncio. Both send each message again until the cluster has
answered, without publishing it twice. Of wsd they import only the root of its errors, and otherwise only the standard
library.
"""

from wsd.publisher.async_publisher import AsyncPublisher
from wsd.publisher.errors import PublishError
from wsd.publisher.records import History, Member, OutgoingMessage, Presence, PublishResult, Session, Sessions
from wsd.publisher.sync_publisher import Publisher

__all__ = [
    "AsyncPublisher",
    "History",
    "Member",
    "OutgoingMessage",
    "Presence",
    "PublishError",
    "PublishResult",
    "Publisher",
    "Session",
    "Sessions",
]
