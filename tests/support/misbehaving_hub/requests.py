"""The requests of clients, carried out and answered as the hub does it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from tests.support.misbehaving_hub import faults as kinds
from tests.support.misbehaving_hub.limits import Limits
from tests.support.misbehaving_hub.memory import BROADCAST, DIRECT, Memory, Message, Session
from tests.support.misbehaving_hub.peer import Peer

F = TypeVar("F")

WORKER = "worker-0-standin"
PUBLISHING = ("publish", "broadcast", "direct")


class Hub(Protocol):
    """What the requests need of the stand-in."""

    memory: Memory
    peers: dict[int, Peer]
    limits: Limits
    announce_limits: bool

    def faults_of(self, number: int, kind: type[F]) -> list[F]: ...
    def later(self, seconds: float, do: Callable[[], None]) -> None: ...
    def now(self) -> float: ...


def user_channel(user_id: str) -> str:
    """Return the name under which the messages to a user are stored. Clients know it as `direct`."""
    return f"{DIRECT} {user_id}"


class Requests:
    """The part of the stand-in that behaves well."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._memory = hub.memory

    def welcome(self, peer: Peer, session: Session, since: Mapping[str, Message], *, resumed: bool) -> None:
        """Send the welcome, and then what the client has missed."""
        unwanted = {each.channel for each in self._hub.faults_of(peer.number, kinds.RefuseResubscription)}
        here = {BROADCAST, DIRECT}
        peer.channels = (set(since) | (session.channels if resumed else set())) - unwanted - here
        missed: list[Message] = []
        states: dict[str, Message] = {}
        for channel in sorted(peer.channels | here):
            states[channel], follow = self._state(peer, session, channel, since.get(channel))
            missed += follow
        limits = {"limits": self._hub.limits.announcement()} if self._hub.announce_limits else {}
        peer.send(
            {
                "type": "welcome",
                "session_id": session.session_id,
                "user_id": session.user_id,
                "username": session.username,
                "worker_id": WORKER,
                "node_id": "standin",
                "resumed": resumed,
                "resume_token": self._memory.token_of(session),
                "channels": states,
                **limits,
            }
        )
        for message in missed:
            self._deliver(peer, message)

    def _state(
        self, peer: Peer, session: Session, channel: str, since: Message | None, last: int | None = None
    ) -> tuple[Message, list[Message]]:
        """Return the state of a channel for a client, and the messages that follow."""
        history = self._memory.channel(user_channel(session.user_id) if channel == DIRECT else channel)
        state: dict[str, Any] = dict(history.position)
        for fault in self._hub.faults_of(peer.number, kinds.Unrecovered):
            if fault.channel == channel and since is not None:
                return {**state, "recovered": False, "reason": fault.reason}, []
        if since is None and last is None:
            return state, []
        missed = history.missed_since(since) if since is not None else history.newest(last or 0)
        if isinstance(missed, str):
            return {**state, "recovered": False, "reason": missed}, []
        return {**state, "recovered": True, "count": len(missed)}, missed

    def _deliver(self, peer: Peer, message: Message) -> None:
        times = 2 if self._hub.faults_of(peer.number, kinds.SayTwice) else 1
        for _ in range(times):
            peer.send(message)

    def carry_out(self, peer: Peer, request: Message, *, silently: bool = False) -> None:
        """Carry out a request. With `silently` the client gets no answer."""
        answer = self._answer(peer, request, silently=silently)
        if answer is not None and not silently:
            self._reply(peer, request, answer)

    @staticmethod
    def _reply(peer: Peer, request: Message, answer: Message) -> None:
        if "id" in request:
            peer.send({**answer, "id": request["id"]})
        elif answer["type"] != "ack":
            peer.send(answer)

    def _answer(self, peer: Peer, request: Message, *, silently: bool) -> Message | None:
        """Do what a request asks for, and return the answer that is yet to be sent."""
        session = peer.session
        assert session is not None
        channel = str(request.get("channel", ""))
        match request.get("type"):
            case None:
                self.publish(BROADCAST, BROADCAST, request, session, "")
                return {"type": "ack"}
            case "publish" | "broadcast" | "direct":
                name, label = self._place_of(request)
                key = str(request.get("idempotency_key", ""))
                at = self.publish(name, label, request.get("data"), session, key)
                return {"type": "ack", **at, "durable": True}
            case "subscribe":
                self._subscribe(peer, session, channel, request, silently=silently)
                return None
            case "unsubscribe":
                peer.channels.discard(channel)
                return {"type": "ack"}
            case "presence":
                members = [each for each in self._hub.peers.values() if channel in each.channels]
                listed = [self._member(each.session) for each in members if each.session is not None]
                return {"type": "presence", "channel": channel, "count": len(listed), "members": listed}
            case "history":
                return self._history(channel, request)
            case "delivered":
                user_id, offset = request.get("user_id"), request.get("offset")
                return {
                    "type": "delivered",
                    "channel": channel,
                    "user_id": user_id,
                    "delivered": True,
                    "offset": offset,
                }
            case "ping":
                return {"type": "pong"}
            case "resume":
                return {"type": "error", "code": "invalid_request", "message": "resume comes first"}
            case other:
                return {"type": "error", "code": "unknown_type", "message": f"there is no {other}"}

    @staticmethod
    def _place_of(request: Message) -> tuple[str, str]:
        """Return where a message is stored, and what clients call that channel."""
        match request["type"]:
            case "broadcast":
                return BROADCAST, BROADCAST
            case "direct":
                return user_channel(str(request.get("user_id", ""))), DIRECT
            case _:
                return str(request.get("channel", "")), str(request.get("channel", ""))

    @staticmethod
    def _member(session: Session) -> Message:
        return {
            "user_id": session.user_id,
            "username": session.username,
            "node_id": "standin",
            "worker_id": WORKER,
            "client": session.session_id[:16],
        }

    def _subscribe(self, peer: Peer, session: Session, channel: str, request: Message, *, silently: bool) -> None:
        state, missed = self._state(peer, session, channel, request.get("since"), request.get("last"))
        peer.channels.add(channel)
        if not silently:
            peer.send({"type": "subscribed", "channel": channel, **state})
            self._reply(peer, request, {"type": "ack"})
        for message in missed:
            self._deliver(peer, message)

    def _history(self, channel: str, request: Message) -> Message:
        history = self._memory.channel(channel)
        since, limit = int(request.get("since", 0)), int(request.get("limit", 100))
        messages = history.page(since, limit, reverse=bool(request.get("reverse", False)))
        return {"type": "history", "channel": channel, **history.position, "messages": messages}

    def put_in(self, peer: Peer, channel: str) -> None:
        """Make a client a member of a channel as the server itself."""
        assert peer.session is not None
        peer.channels.add(channel)
        peer.send({"type": "subscribed", "channel": channel, **self._state(peer, peer.session, channel, None)[0]})

    @staticmethod
    def take_out(peer: Peer, channel: str) -> None:
        """Take a client out of a channel as the server itself."""
        peer.channels.discard(channel)
        peer.send({"type": "unsubscribed", "channel": channel, "reason": "server"})

    # Messages

    def publish(self, name: str, label: str, data: object, sender: Session | None, key: str) -> Message:
        """Store a message, and send it to the members unless its key was stored before. Return its position."""
        message = self._message(name, label, data, sender, key)
        at, is_new = self._store(name, message, sender, key)
        if is_new:
            for peer in self._members(name):
                self._deliver(peer, {**message, **at})
        return at

    def publish_undurably(self, peer: Peer, request: Message, seconds: float) -> None:
        """Deliver a message that is stored some seconds later, as the hub does while Redis is away."""
        session = peer.session
        assert session is not None
        if request.get("type") not in PUBLISHING:
            self.carry_out(peer, request)
            return
        name, label = self._place_of(request)
        key = str(request.get("idempotency_key", ""))
        message = self._message(name, label, request.get("data"), session, key)
        had_it = self._members(name)
        for each in had_it:
            self._deliver(each, message)
        self._reply(peer, request, {"type": "ack", "durable": False})

        def store() -> None:
            at, is_new = self._store(name, message, session, key)
            for each in self._members(name):
                if each in had_it:
                    each.send({"type": "position", "channel": label, **at})
                elif is_new:
                    self._deliver(each, {**message, **at})
            self._reply(peer, request, {"type": "ack", **at, "durable": True})

        self._hub.later(seconds, store)

    def _store(self, name: str, message: Message, sender: Session | None, key: str) -> tuple[Message, bool]:
        return self._memory.store(sender.user_id if sender is not None else "", name, key, message)

    def _message(self, name: str, label: str, data: object, sender: Session | None, key: str) -> Message:
        user_id = sender.user_id if sender is not None else ""
        message: Message = {"type": "message", "channel": label, "data": data}
        if sender is not None:
            message["from"] = {"user_id": user_id, "username": sender.username, "worker_id": WORKER}
        return {**message, "uid": self._memory.uid_of(user_id, name, key, self._hub.now())}

    def _members(self, name: str) -> list[Peer]:
        """Return the welcomed clients that get the messages of a channel."""
        welcomed = [peer for peer in self._hub.peers.values() if peer.session is not None]
        if name == BROADCAST:
            return welcomed
        return [
            peer
            for peer in welcomed
            if name in peer.channels or (peer.session is not None and name == user_channel(peer.session.user_id))
        ]
