"""The records of events: what the application's functions get, and what webhooks carry. All of them are frozen."""

from typing import Any

import msgspec
from msgspec import Struct

from wsd.worker.errors import WorkerError
from wsd.worker.security.authentication import Identity


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something that happened to a session. Times are in seconds since the epoch, by the clocks of the workers."""

    id: str
    """Two events with one id are the same event, which came twice."""

    at: float
    """When it happened."""

    session_id: str
    user_id: str
    username: str
    connected_at: float
    """When the session began."""


class Connected(Event, frozen=True, kw_only=True, tag="connected"):
    """A new session has begun. A client that resumes its session does not begin a new one."""


class Disconnected(Event, frozen=True, kw_only=True, tag="disconnected"):
    """A session is over: it ended or expired, and its client cannot come back to it."""

    channels: tuple[str, ...] = ()
    """The channels that the session was in. It has left them with this event, without an event for each."""


class Subscribed(Event, frozen=True, kw_only=True, tag="subscribed"):
    """A session has become a member of a channel."""

    channel: str
    """The channel that the session has entered."""


class Unsubscribed(Event, frozen=True, kw_only=True, tag="unsubscribed"):
    """A session has left a channel, and goes on."""

    channel: str
    """The channel that the session has left."""


AnyEvent = Connected | Disconnected | Subscribed | Unsubscribed
"""The type to decode an event as."""


class ClientMessage(Struct, frozen=True, kw_only=True):
    """A message that a client of the hub publishes, before anybody gets it."""

    channel: str
    """The name of the channel; "broadcast" for a message to all clients, "direct" for one to a user."""

    data: Any
    """What the client sent, decoded from JSON."""

    identity: Identity
    """The client: its user, and the claims of its token."""

    session_id: str
    to_user_id: str = ""
    """The user that a direct message is for."""

    def with_data(self, data: Any) -> "ClientMessage":
        """Return the message with other data, for `on_message` to return."""
        return msgspec.structs.replace(self, data=data)


class ClientCall(Struct, frozen=True, kw_only=True):
    """A call (`rpc`) of a client of the Centrifuge protocol, for the function of `centrifuge.rpc` to answer."""

    method: str
    """The name that the client calls."""

    data: Any
    """What the client sent, decoded from JSON. None if it sent nothing."""

    identity: Identity
    """The client: its user, and the claims of its token."""

    session_id: str


class MessageRefusedError(WorkerError):
    """The message of a client is refused. To be raised by `on_message`; the client gets the text and the code."""

    def __init__(self, message: str, code: str = "refused") -> None:
        """`message`: for people, on one line. `code`: for programs, such as "too_rude"."""
        super().__init__(message)
        self.code = code


class SessionFacts(Struct, frozen=True, kw_only=True):
    """The facts about a session that each of its events has."""

    session_id: str
    user_id: str
    username: str
    connected_at: float


def event_of(kind: str, entry_id: str, at: float, facts: SessionFacts, channels: tuple[str, ...]) -> Event:
    """Return the event of an entry of an event log. `channels`: the one that it is about, or all of the session.

    A session begins once and ends once, so that its id makes the ids of these events. The ids of other events come from
    their entries.
    """
    session = msgspec.structs.asdict(facts)
    match kind:
        case "connected":
            return Connected(id=f"{facts.session_id}:connected", at=at, **session)
        case "disconnected":
            return Disconnected(id=f"{facts.session_id}:disconnected", at=at, channels=channels, **session)
        case "subscribed":
            return Subscribed(id=f"{facts.session_id}:{entry_id}", at=at, channel=channels[0], **session)
        case "unsubscribed":
            return Unsubscribed(id=f"{facts.session_id}:{entry_id}", at=at, channel=channels[0], **session)
    raise ValueError(f"{kind!r} is no type of events")
