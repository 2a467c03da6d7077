"""What the stand-in has heard and done, for the assertions of a test."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from tests.support.misbehaving_hub.memory import Message


@dataclass(frozen=True)
class Handshake:
    """A request to open a WebSocket."""

    number: int  # of the connection
    at: float  # seconds by the monotonic clock
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case

    @property
    def subprotocols(self) -> list[str]:
        return [each.strip() for each in self.headers.get("sec-websocket-protocol", "").split(",") if each.strip()]

    @property
    def token(self) -> str:
        """The token in the subprotocols, the query or the header `Authorization`, "" without one."""
        if self.subprotocols[:1] == ["wsd.bearer"]:
            return self.subprotocols[1]
        return self.query.get("token") or self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Heard:
    """A message from a client. `request` is empty if the message is no JSON object."""

    number: int
    at: float
    request: Message
    content: str | bytes


@dataclass(frozen=True)
class Ended:
    """The end of a connection: 1006 without a close frame."""

    number: int
    at: float
    code: int
    by_client: bool  # whether the close frame was the client's, or the end without one was not wanted by the stand-in


@dataclass
class Records:
    """All that happened, in order. The lists grow while a test reads them, also in another thread."""

    accepted: list[float] = field(default_factory=list)
    handshakes: list[Handshake] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    """How often each idempotency key was heard."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys_heard_again(self) -> list[str]:
        with self.lock:
            return [key for key, times in self.keys.items() if times > 1]

    @property
    def pauses(self) -> list[float]:
        """The seconds between the handshakes."""
        times = [each.at for each in list(self.handshakes)]
        return [later - earlier for earlier, later in pairwise(times)]

    def requests(self, *types: str, number: int | None = None) -> list[Message]:
        """Return the requests of some types, or all; of one connection, or of all."""
        return [
            each.request
            for each in list(self.heard)
            if (not types or each.request.get("type") in types) and number in (None, each.number)
        ]

    def note(self, heard: Heard) -> None:
        self.heard.append(heard)
        if key := heard.request.get("idempotency_key"):
            with self.lock:
                self.keys[str(key)] += 1
