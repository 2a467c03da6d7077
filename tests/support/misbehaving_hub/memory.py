"""What the stand-in remembers: channels with their histories, sessions and idempotency keys. No I/O."""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

BROADCAST, DIRECT = "broadcast", "direct"
UID_SECONDS = 60


def position_of(message: Message) -> tuple[Any, Any]:
    """Return the offset and the epoch in a message or a request."""
    return message.get("offset"), message.get("epoch")


class Channel:
    """The history of a channel: its offsets count from 1 without a hole within one epoch."""

    def __init__(self, size: int, epoch: str) -> None:
        """`size`: the most messages that are kept."""
        self.size = size
        self.epoch = epoch
        self.offset = 0
        self.messages: list[Message] = []

    @property
    def position(self) -> Message:
        return {"offset": self.offset, "epoch": self.epoch}

    def store(self, message: Message) -> Message:
        """Append a message, and return it with its position."""
        self.offset += 1
        stored = {**message, **self.position}
        self.messages = [*self.messages, stored][-self.size :]
        return stored

    def lose(self) -> None:
        """Forget all messages, and begin another epoch."""
        self.epoch += "+"
        self.offset = 0
        self.messages = []

    def missed_since(self, since: Message) -> list[Message] | str:
        """Return the messages after a position, or the reason why they cannot be told."""
        offset, epoch = position_of(since)
        if epoch != self.epoch or offset > self.offset:
            return "epoch_changed"
        if offset < self.offset - len(self.messages):
            return "trimmed"
        return [message for message in self.messages if message["offset"] > offset]

    def newest(self, count: int) -> list[Message]:
        return self.messages[-count:] if count else []

    def page(self, since: int, limit: int, *, reverse: bool) -> list[Message]:
        """Return the messages after the offset `since`, or with `reverse` those before it, newest first."""
        if reverse:
            return [each for each in reversed(self.messages) if not since or each["offset"] < since][:limit]
        return [each for each in self.messages if each["offset"] > since][:limit]


@dataclass
class Session:
    """A client, which may come back in another connection."""

    session_id: str
    user_id: str
    username: str
    channels: set[str] = field(default_factory=set)


class Memory:
    """Everything that outlives a connection."""

    def __init__(self, history_size: int) -> None:
        self.history_size = history_size
        self.channels: dict[str, Channel] = {}
        self.stored: list[Message] = []
        """All messages in the order in which they were stored, with their positions."""
        self._keys: dict[tuple[str, str, str], Message] = {}  # positions by user, channel and idempotency key
        self._sessions: dict[str, Session] = {}  # by resume token
        self._numbers = itertools.count(1)

    def channel(self, name: str) -> Channel:
        if name not in self.channels:
            self.channels[name] = Channel(self.history_size, f"e{len(self.channels)}")
        return self.channels[name]

    def new_session(self, user_id: str, username: str) -> Session:
        return Session(f"session-{next(self._numbers)}", user_id, username)

    def token_of(self, session: Session) -> str:
        """Return a new token for a session. The earlier ones stay valid, since a welcome may be lost on its way."""
        token = f"token-{next(self._numbers)}"
        self._sessions[token] = session
        return token

    def session_of(self, token: str) -> Session | None:
        return self._sessions.get(token)

    def forget(self, sessions: Iterable[Session]) -> None:
        """End sessions: their tokens are worth nothing any more."""
        ended = {id(session) for session in sessions}
        self._sessions = {token: each for token, each in self._sessions.items() if id(each) not in ended}

    def forget_all_sessions(self) -> None:
        self._sessions.clear()

    def uid_of(self, user_id: str, channel: str, key: str, now: float) -> str:
        """Return the uid of a message. `now` is in seconds since 1970."""
        if not key:
            return f"standin-{next(self._numbers)}"
        digest = hashlib.sha256(repr((user_id, channel, key)).encode()).hexdigest()[:32]
        return f"{digest}-{int(now // UID_SECONDS):x}"

    def store(self, user_id: str, channel: str, key: str, message: Message) -> tuple[Message, bool]:
        """Store a message unless its key was stored before. Return its position, and whether it is new."""
        name = (user_id, channel, key)
        if key and name in self._keys:
            return self._keys[name], False
        stored = self.channel(channel).store(message)
        self.stored.append(stored)
        position = {"offset": stored["offset"], "epoch": stored["epoch"]}
        if key:
            self._keys[name] = position
        return position, True
