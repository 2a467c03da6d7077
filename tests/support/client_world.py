"""A client's state machine in a simulated world: a hub, a network that delays and loses, and a clock of numbers.

Nothing here waits. The hub is a small model of the real one: it has sessions, histories without an end, and idempotency
keys, and it counts what a client sends by the real rule.
"""

import heapq
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from wsd.client.effects import (
    AskToken,
    Connect,
    Deliver,
    Disconnect,
    Gap,
    Left,
    Reject,
    Resolve,
    Send,
    StateChanged,
)
from wsd.client.ends import End
from wsd.client.errors import RequestError
from wsd.client.machine import Machine
from wsd.client.settings import MAX_IN_FLIGHT, Settings
from wsd.worker.manager.connection import MAX_WRITTEN, NEW_HISTORY_BYTES
from wsd.worker.security.limits import TokenBucket

Message = dict[str, Any]
OWN = ("broadcast", "direct")
REFUSALS = {
    "not_stored": ("publish", "broadcast"),
    "unavailable": ("subscribe", "history", "presence"),
    "channel_full": ("subscribe",),
    "internal_error": ("publish", "broadcast", "subscribe", "history", "presence"),
}
"""The error codes with which the hub may refuse requests."""

LEFT = -1_000_000
"""Stands among the calls of a channel for the event that the hub has refused it."""

STEPS = 20_000
"""More steps than a scenario needs. A client that never comes to rest is found by it."""


@dataclass
class Connection:
    """One WebSocket, seen from the network. What is on its way arrives in its order, or not at all."""

    attempt: int
    user: str
    resumes: bool
    up_at: float = 0.0  # the last text of the client arrives then
    down_at: float = 0.0  # the last text of the hub arrives then
    is_cut: bool = False  # nothing passes any more
    is_heard: bool = True  # the client still listens to it
    session: "Session | None" = None
    messages: TokenBucket | None = None
    bytes: TokenBucket | None = None
    written: dict[str, None] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)  # as the client must see it


@dataclass
class Session:
    token: str
    channels: set[str] = field(default_factory=set)
    connection: Connection | None = None


@dataclass
class Stored:
    """What the hub knows of one channel."""

    messages: list[Message] = field(default_factory=list)
    offset: int = 0


class Hub:
    """The hub, as far as one client sees it. `limits` are those of the welcome."""

    def __init__(self, world: "World", limits: Message) -> None:
        self.limits = limits
        self.sessions: dict[str, Session] = {}
        self.channels: dict[str, Stored] = {}
        self.keys: dict[str, Message] = {}  # acks by idempotency key
        self.stored: list[int] = []  # ids of the client's messages, in the order in which they were stored
        self.refused_by_rate = 0
        self.refuses: dict[str, float] = {}  # by error code: how often a request is refused
        self.is_local = False  # messages are stored later
        self.closed: set[str] = set()  # channels that only the hub lets the client join
        self._later: list[tuple[Connection, Message]] = []
        self._world = world
        self._tokens = count(1)

    def opened(self, connection: Connection) -> None:
        if not connection.resumes:
            self._welcome(connection, Session(f"t{next(self._tokens)}"), {}, resumed=False)

    def received(self, connection: Connection, message: Message) -> None:
        if connection.session is None:
            assert message["type"] == "resume", "the first message after ?resume=1"
            session = self.sessions.pop(message["token"], None)
            resumed = session is not None
            session = session or Session("")
            if (before := session.connection) is not None and before is not connection:
                self._world.end(before, End(4500, "goes on in another connection"))
            session.token = f"t{next(self._tokens)}"
            self._welcome(connection, session, message["since"], resumed=resumed)
        elif self._is_within_rates(connection, message):
            self._carry_out(connection, message)

    def publish(self, channel: str, **fields: Any) -> Message:
        """Store a message and send it to the client, if it is a member. Return its position."""
        stored = self.channels.setdefault(channel, Stored())
        stored.offset += 1
        at = {"offset": stored.offset, "epoch": "e"}
        message = {"type": "message", "channel": channel, **at, **fields}
        if stored.offset % 2:
            message["uid"] = f"{channel}-{stored.offset}"
        stored.messages.append(message)
        for session in self.sessions.values():
            if session.connection is not None and channel in session.channels | set(OWN):
                self._world.down(session.connection, message)
        return at

    def put_in(self, channel: str) -> None:
        """Make the client a member of a channel by itself, whether it is connected or not."""
        self._world.chosen_by_hub.add(channel)
        for session in self.sessions.values():
            if channel not in session.channels:
                session.channels.add(channel)
                if session.connection is not None:
                    self._world.down(
                        session.connection, {"type": "subscribed", "channel": channel, **self._state(channel, None)}
                    )

    def take_out(self, channel: str) -> None:
        """Take the client out of a channel, if it is connected."""
        for session in self.sessions.values():
            if channel in session.channels and session.connection is not None:
                session.channels.discard(channel)
                notice = {"type": "unsubscribed", "channel": channel, "reason": "server"}
                self._world.down(session.connection, notice)

    def store_later(self) -> None:
        """Redis is back."""
        self.is_local = False
        later, self._later = self._later, []
        for connection, message in later:
            self._acknowledge(connection, message)

    def _welcome(self, connection: Connection, session: Session, since: Message, *, resumed: bool) -> None:
        connection.session, session.connection = session, connection
        self.sessions[session.token] = session
        refused = self.closed & since.keys() - session.channels
        session.channels |= since.keys() - refused - set(OWN)
        limits, now = self.limits, self._world.now
        if limits.get("messages_per_second"):
            connection.messages = TokenBucket(limits["messages_per_second"], limits["message_burst"], now)
        if limits.get("bytes_per_second"):
            connection.bytes = TokenBucket(limits["bytes_per_second"], limits["byte_burst"], now)
        states = {channel: self._state(channel, since.get(channel)) for channel in sorted({*OWN, *session.channels})}
        welcome = {"type": "welcome", "user_id": connection.user, "resumed": resumed, "resume_token": session.token}
        welcome["refused"] = dict.fromkeys(refused, "forbidden")
        self._world.down(connection, {**welcome, "channels": states, "limits": limits})
        for channel in states:
            self._catch_up(connection, channel, since.get(channel))

    def _state(self, channel: str, since: Message | None) -> Message:
        stored = self.channels.setdefault(channel, Stored())
        at: Message = {"offset": stored.offset, "epoch": "e"}
        return at if since is None else {**at, "recovered": True, "count": stored.offset - since["offset"]}

    def _catch_up(self, connection: Connection, channel: str, since: Message | None) -> None:
        for message in self.channels[channel].messages[since["offset"] :] if since else ():
            self._world.down(connection, message)

    def _is_within_rates(self, connection: Connection, message: Message) -> bool:
        size = len(json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode())
        now = self._world.now
        buckets = ((connection.messages, 1, "rate_limited"), (connection.bytes, size, "byte_rate_limited"))
        for bucket, amount, code in buckets:
            if bucket is not None and not bucket.take(now, amount):
                self.refused_by_rate += 1
                self._refuse(connection, message, code)
                return False
        return True

    def _carry_out(self, connection: Connection, message: Message) -> None:
        session, kind, channel = connection.session, message["type"], message.get("channel", "")
        assert session is not None
        for code, share in self.refuses.items():
            if kind in REFUSALS[code] and self._world.random.random() < share:
                self._refuse(connection, message, code)
                return
        if kind in ("publish", "broadcast"):
            self._charge(connection, channel or "broadcast")
            if self.is_local:
                self._later.append((connection, message))
                self._world.down(connection, {"type": "ack", "id": message["id"], "durable": False})
            else:
                self._acknowledge(connection, message)
        elif kind == "subscribe" and channel in self.closed - session.channels:
            self._refuse(connection, message, "forbidden")
        elif kind == "subscribe":
            since = message.get("since")
            if "last" in message:
                since = {"offset": max(0, self.channels.setdefault(channel, Stored()).offset - message["last"])}
            session.channels.add(channel)
            self._world.down(connection, {"type": "subscribed", "channel": channel, **self._state(channel, since)})
            self._world.down(connection, {"type": "ack", "id": message["id"]})
            self._catch_up(connection, channel, since)
        elif kind == "unsubscribe":
            session.channels.discard(channel)
            self._world.down(connection, {"type": "ack", "id": message["id"]})
        else:
            answer = {"ping": "pong"}.get(kind, kind)
            self._world.down(connection, {"type": answer, **({"id": message["id"]} if "id" in message else {})})

    def _acknowledge(self, connection: Connection, message: Message) -> None:
        key = message["idempotency_key"]
        if key not in self.keys:
            self.stored.append(message["id"])
            self.keys[key] = self.publish(message.get("channel", "broadcast"), data=message["data"])
        self._world.down(connection, {"type": "ack", "id": message["id"], **self.keys[key], "durable": True})

    def _refuse(self, connection: Connection, message: Message, code: str) -> None:
        self._world.down(connection, {"type": "error", "code": code, "message": "", "id": message.get("id")})

    def _charge(self, connection: Connection, channel: str) -> None:
        """Charge for a history, by the rule of Connection.charge_for_history."""
        written = connection.written
        if channel in written:
            del written[channel]
        else:
            if connection.bytes is not None:
                connection.bytes.owe(self._world.now, NEW_HISTORY_BYTES)
            if len(written) >= MAX_WRITTEN:
                del written[next(iter(written))]
        written[channel] = None


class World:
    """A machine, its hub, and what the application has seen. Raises AssertionError where the client breaks its word."""

    def __init__(self, seed: int, limits: Message | None = None, settings: Settings | None = None) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        self.hub = Hub(self, limits or {})
        self.machine = Machine(settings or Settings(token_is_fixed=False), "run", self.random.random)
        self.slowest = 0.2  # seconds that a text is on its way at most
        self.refuses_handshakes = 0.0  # the share of handshakes that are refused
        self.loses_tokens = 0.0  # the share of calls of the token function that fail
        self.calls: dict[int, Message] = {}  # without an answer, by number
        self.settled: dict[int, str] = {}  # "" or the error code, by number
        self.by_channel: dict[str, list[int]] = {}  # calls that join a channel, and negative ones that leave it
        self.chosen_by_hub: set[str] = set()  # channels into which the hub has put the client at some time
        self.delivered: list[Message] = []
        self.gaps: list[Gap] = []
        self.reached: dict[str, int] = {}  # the offset of the last message, by channel
        self.states: list[str] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._attempt = 0
        self._connection: Connection | None = None
        self._sleeps_until = 0.0
        self._steps = 0
        self.machine.start(self.now)
        self._act()

    # The application

    def call(self, kind: str, fields: Message, timeout: float | None = None) -> int:
        number = self.machine.call(self.now, kind, fields, timeout)
        return self._called(number, {"kind": kind, **fields})

    def subscribe(self, channel: str, last: int = 0, timeout: float | None = None) -> int:
        number = self.machine.subscribe(self.now, channel, last, timeout)
        self.by_channel.setdefault(channel, []).append(number)
        return self._called(number, {"kind": "subscribe", "channel": channel})

    def unsubscribe(self, channel: str, timeout: float | None = None) -> int:
        number = self.machine.unsubscribe(self.now, channel, timeout)
        self.by_channel.setdefault(channel, []).append(-number)
        self.reached.pop(channel, None)
        return self._called(number, {"kind": "unsubscribe", "channel": channel})

    def cancel(self) -> None:
        if self.calls:
            self.machine.cancel(self.now, self.random.choice(list(self.calls)))
            self._act()

    def do(self, method: str) -> None:
        getattr(self.machine, method)(self.now)
        self._act()

    def _called(self, number: int, call: Message) -> int:
        self.calls[number] = call
        self._act()
        return number

    def is_in(self, channel: str) -> bool:
        """Return whether the application has to be in a channel after all that was said."""
        found = False
        for number in self.by_channel.get(channel, []):
            found = number > 0 and (found or self.settled.get(number) == "")
        return found

    # Time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            due = self.machine.deadline
            tick_at = float("inf") if due is None else max(due, self._sleeps_until, self.now)
            event_at = max(self._heap[0][0], self._sleeps_until) if self._heap else float("inf")
            if min(tick_at, event_at) > end:
                break
            self._steps += 1
            assert self._steps < STEPS, "the client does not come to rest"
            if tick_at < event_at or (tick_at == event_at and self.random.random() < 0.5):
                self.now = tick_at
                self.machine.tick(self.now)
                after = self.machine.deadline
                assert after is None or after > self.now, "a deadline that has passed is over after a tick"
            else:
                self.now = max(event_at, self.now)
                heapq.heappop(self._heap)[2]()
            self._act()
        self.now = end

    def sleep(self, seconds: float) -> None:
        """Stop the client's process. What arrives meanwhile lies unread."""
        self._sleeps_until = self.now + seconds
        self.run(seconds)

    def settle(self) -> None:
        """Let the world be a good one until nothing happens any more."""
        self.refuses_handshakes = self.loses_tokens = 0.0
        self.hub.refuses.clear()
        self.slowest = 0.05
        self.hub.store_later()
        self.run(100)
        if self.machine.state.name != "open":
            self.do("reconnect")
            self.run(100)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), do))

    # The network

    def cut(self, *, silently: bool) -> None:
        """Cut the connection. Silently: the client is not told."""
        connection = self._connection
        if connection is not None and not connection.is_cut:
            connection.is_cut = True
            if not silently:
                self.later(self._delay(), lambda: self._ended(connection, End()))
            self._forgotten(connection)

    def close_by_hub(self, code: int) -> None:
        if self._connection is not None:
            self.end(self._connection, End(code))

    def end(self, connection: Connection, end: End) -> None:
        """Let the hub close a connection: what it has sent before arrives before."""
        if not connection.is_cut:
            self._forgotten(connection)
            at = max(connection.down_at, self.now + self._delay())
            connection.is_cut = True
            self.later(at - self.now, lambda: self._ended(connection, end))

    def down(self, connection: Connection, message: Message) -> None:
        """Send a text to the client."""
        if connection.is_cut:
            return
        connection.down_at = max(connection.down_at, self.now + self._delay())
        text = json.dumps(message)

        def arrive() -> None:
            if message["type"] in ("ack", "pong", "presence", "history", "error"):
                connection.unanswered.discard(message.get("id", 0))
            self.machine.received(self.now, connection.attempt, text)

        self.later(connection.down_at - self.now, arrive)

    def _up(self, connection: Connection, text: str) -> None:
        message = json.loads(text)
        connection.up_at = max(connection.up_at, self.now + self._delay())

        def arrive() -> None:
            if not connection.is_cut:
                self.hub.received(connection, message)

        self.later(connection.up_at - self.now, arrive)

    def _delay(self) -> float:
        return self.random.random() * self.slowest

    def _ended(self, connection: Connection, end: End) -> None:
        if connection.is_heard:
            connection.is_heard = False
            self.machine.ended(self.now, connection.attempt, end)

    def _forgotten(self, connection: Connection) -> None:
        if connection.session is not None and connection.session.connection is connection:
            connection.session.connection = None

    # What the machine wants

    def _act(self) -> None:
        for effect in self.machine.take_effects():
            match effect:
                case AskToken(attempt):
                    assert attempt == self._attempt + 1
                    self._attempt = attempt
                    fails = self.random.random() < self.loses_tokens
                    self.later(self._delay(), partial(self._give_token, attempt, fails))
                case Connect(attempt, query, _):
                    self._connect(attempt, query)
                case Send(attempt, text):
                    self._sent(attempt, text)
                case Disconnect(attempt, _):
                    connection = self._connection
                    if connection is not None and connection.attempt == attempt:
                        connection.is_heard = False
                        self._connection = None
                        self.later(self._delay(), partial(self._closed, connection))
                case Resolve(number, _):
                    self._settled(number, "")
                case Reject(number, code, _):
                    self._settled(number, code)
                case Deliver(message):
                    self._delivered(message)
                case Gap():
                    self.gaps.append(effect)
                case Left(channel, _, _):
                    self.by_channel.setdefault(channel, []).append(LEFT)
                    self.reached.pop(channel, None)
                case StateChanged(state):
                    self.states.append(state.name)

    def _delivered(self, message: Message) -> None:
        channel, offset = message["channel"], message["offset"]
        is_free = channel in OWN or channel in self.chosen_by_hub
        assert is_free or self._may_hear(channel), f"nothing is heard of {channel} after it was left"
        if channel in self.reached:
            assert offset == self.reached[channel] + 1, f"message {offset} of {channel} follows {self.reached[channel]}"
        self.reached[channel] = offset
        self.delivered.append(message)

    def _may_hear(self, channel: str) -> bool:
        calls = self.by_channel[channel]
        since_left = calls[max((at for at, number in enumerate(calls) if number < 0), default=-1) + 1 :]
        return any(number in self.calls or self.settled[number] == "" for number in since_left)

    def _give_token(self, attempt: int, fails: bool) -> None:
        if fails:
            self.machine.token_failed(self.now, attempt, "no")
        else:
            self.machine.token_ready(self.now, attempt, None)

    def _connect(self, attempt: int, query: dict[str, str]) -> None:
        connection = Connection(attempt, query.get("user_id", f"guest-{attempt}"), "resume" in query)
        self._connection = connection
        refused = self.random.random() < self.refuses_handshakes

        def answer() -> None:
            if not connection.is_heard:
                return
            if refused or connection.is_cut:
                connection.is_cut = True
                self._ended(connection, End(status=503))
            else:
                connection.up_at = connection.down_at = self.now
                self.machine.opened(self.now, attempt)
                self.hub.opened(connection)

        self.later(self._delay(), answer)

    def _sent(self, attempt: int, text: str) -> None:
        connection = self._connection
        assert connection is not None, "nothing is sent without a connection"
        assert attempt == connection.attempt == self._attempt, "nothing is sent for an earlier attempt"
        assert connection.is_heard, "nothing is sent on a connection that has ended"
        message = json.loads(text)
        if "id" in message:
            connection.unanswered.add(message["id"])
            assert len(connection.unanswered) <= self._window(), "no more than the window is on its way"
        self._up(connection, text)

    def _window(self) -> int:
        limits = self.hub.limits
        if not limits.get("messages_per_second"):
            return MAX_IN_FLIGHT
        return max(1, min(MAX_IN_FLIGHT, int(limits["message_burst"] / 2)))

    def _closed(self, connection: Connection) -> None:
        self._forgotten(connection)
        connection.is_cut = True

    def _settled(self, number: int, code: str) -> None:
        assert number in self.calls, f"call {number} is settled once"
        del self.calls[number]
        self.settled[number] = code
        if self._connection is not None:
            self._connection.unanswered.discard(number)


def try_to(do: Callable[[], object]) -> None:
    """Make a call that may be refused at once."""
    try:
        do()
    except RequestError as exc:
        assert exc.code in ("queue_full", "closed", "too_big"), exc
