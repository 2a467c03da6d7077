"""The stand-in itself: it serves its clients as the hub does, unless a fault says otherwise."""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from websockets.http11 import Request

from tests.support.loop_server import LoopServer, from_any_thread, reset_at_close
from tests.support.misbehaving_hub import faults as kinds
from tests.support.misbehaving_hub.faults import Fault, OnRequest
from tests.support.misbehaving_hub.limits import Limits, Rates
from tests.support.misbehaving_hub.memory import Memory, Message, Session
from tests.support.misbehaving_hub.peer import Peer
from tests.support.misbehaving_hub.records import Ended, Handshake, Heard, Records
from tests.support.misbehaving_hub.requests import Requests
from wsd.worker.wire.close_codes import CLEAN_CODES, CloseCode

F = TypeVar("F")

LEFT_ON_PURPOSE = (*CLEAN_CODES, CloseCode.NO_STATUS)


class MisbehavingHub(LoopServer):
    """A stand-in for the hub, which behaves well by default.

    async with MisbehavingHub({1: [too_many("1")], 2: [CloseAtOnce(1012)]}) as hub:   # or `with`, for a thread
        ...
        assert [each.number for each in hub.records.handshakes] == [1, 2, 3]

    Connections are counted from 1, as TCP accepts them.
    """

    def __init__(
        self,
        faults: Mapping[int, Sequence[Fault]] | None = None,
        *,
        always: Iterable[Fault] = (),
        limits: Limits | None = None,
        announce_limits: bool = True,
        resume_seconds: float = 10.0,
        history_size: int = 100_000,
    ) -> None:
        """`faults`: by number of the connection. `always`: faults of all connections, after their own.

        `announce_limits`: whether the welcome says the limits; the stand-in keeps them anyway.
        """
        super().__init__()
        self.faults = {number: list(each) for number, each in (faults or {}).items()}
        self.always = list(always)
        self.limits = limits or Limits()
        self.announce_limits = announce_limits
        self.resume_seconds = resume_seconds
        self.records = Records()
        self.memory = Memory(history_size)
        self.peers: dict[int, Peer] = {}
        """The connections that are open on the level of TCP."""
        self._rates: dict[int, Rates] = {}
        self._used: Counter[int] = Counter()  # requests that each fault was applied to, by the id of the fault
        self._requests = Requests(self)

    # Commands of a test

    @property
    def connections(self) -> list[int]:
        """The numbers of the welcomed connections that are open."""
        return [number for number, peer in list(self.peers.items()) if peer.is_open and peer.session]

    def stored(self, channel: str) -> list[object]:
        """Return the data of all messages of a channel in the order in which they were stored."""
        return [each["data"] for each in list(self.memory.stored) if each["channel"] == channel]

    @from_any_thread
    def send(self, item: str | bytes | Message, *numbers: int) -> None:
        """Send something to these connections, or to all."""
        for number in numbers or self.connections:
            self.peers[number].send(item)

    @from_any_thread
    def close(self, code: int, *numbers: int, reason: str = "") -> None:
        """Close these connections, or all. Code 1006 stands for a reset."""
        for number in numbers or list(self.peers):
            self.peers[number].close(code, reason)

    @from_any_thread
    def publish(self, channel: str, data: object, *, key: str = "") -> Message:
        """Publish a message as the server itself, and return its position."""
        return self._requests.publish(channel, channel, data, None, key)

    @from_any_thread
    def put_in(self, channel: str) -> None:
        """Make all clients members of a channel."""
        for number in self.connections:
            self._requests.put_in(self.peers[number], channel)

    @from_any_thread
    def take_out(self, channel: str) -> None:
        """Take all clients out of a channel."""
        for number in self.connections:
            self._requests.take_out(self.peers[number], channel)

    @from_any_thread
    def forget_sessions(self) -> None:
        """End all sessions, as a hub whose sessions were lost: the tokens are worth nothing any more."""
        self.memory.forget_all_sessions()

    @from_any_thread
    def lose_histories(self) -> None:
        """Begin another epoch in each channel."""
        for channel in self.memory.channels.values():
            channel.lose()

    # Connections

    def faults_of(self, number: int, kind: type[F]) -> list[F]:
        """Return the faults of a kind that a connection has."""
        return [each for each in (*self.faults.get(number, ()), *self.always) if isinstance(each, kind)]

    def accepted(self, connection: socket.socket) -> None:
        self.records.accepted.append(self.loop.time())
        number = len(self.records.accepted)
        if self.faults_of(number, kinds.ResetAtOnce):
            reset_at_close(connection)
            connection.close()
            return
        serving = self.spawn(self._serve(Peer(self, number, self.limits.max_message_bytes), connection))
        # A task that is cancelled before it has begun runs nothing of its own.
        serving.add_done_callback(lambda task: connection.close() if task.cancelled() else None)

    async def _serve(self, peer: Peer, connection: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: peer, connection)
        except OSError:  # the client is gone already
            connection.close()

    def opened(self, peer: Peer) -> None:
        self.peers[peer.number] = peer
        self._rates[peer.number] = Rates(self.limits, self.loop.time())

    def end_connections(self) -> None:
        for peer in list(self.peers.values()):
            peer.reset()

    def asked(self, peer: Peer, request: Request) -> None:
        """Answer a handshake, and welcome the client unless it has a session to resume."""
        url = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        shake = Handshake(peer.number, self.loop.time(), url.path, dict(parse_qsl(url.query)), headers)
        self.records.handshakes.append(shake)
        if self.faults_of(peer.number, kinds.NeverAnswer):
            return
        for answer in self.faults_of(peer.number, kinds.Answer):
            peer.refuse(answer.status, answer.headers, answer.body)
            return
        if not peer.accept(request) or self.faults_of(peer.number, kinds.NeverWelcome):
            return
        user_id = shake.query.get("user_id") or f"guest-{peer.number}"
        newcomer = self.memory.new_session(user_id, shake.query.get("username") or user_id)
        if shake.query.get("resume") == "1" or "session" in shake.query:
            peer.newcomer = newcomer
            peer.awaits_resume = self.loop.call_later(
                self.resume_seconds, peer.close, CloseCode.RESUME_TIMEOUT, "no resume in time"
            )
        else:
            self._welcome(peer, newcomer, {}, resumed=False)

    def _welcome(self, peer: Peer, session: Session, since: Mapping[str, Message], *, resumed: bool) -> None:
        ends: list[kinds.CloseAtOnce | kinds.GoAway] = [
            *self.faults_of(peer.number, kinds.CloseAtOnce),
            *self.faults_of(peer.number, kinds.GoAway),
        ]
        says = self.faults_of(peer.number, kinds.Say)
        self._say(peer, [each for each in says if each.before_welcome])
        if all(end.welcome for end in ends):
            peer.session = session
            self._requests.welcome(peer, session, since, resumed=resumed)
            self._say(peer, [each for each in says if not each.before_welcome])
            for raw in self.faults_of(peer.number, kinds.SayRaw):
                peer.send_raw(raw.data)
        for end in ends:
            if isinstance(end, kinds.CloseAtOnce):
                peer.close(end.code, end.reason)
            else:
                self.close_port()
                self.later(end.seconds, self.open_port)
                peer.reset()

    @staticmethod
    def _say(peer: Peer, faults: Iterable[kinds.Say]) -> None:
        for fault in faults:
            for item in fault.items:
                peer.send(item)

    def ended(self, peer: Peer, code: int, *, by_client: bool) -> None:
        self.records.ended.append(Ended(peer.number, self.loop.time(), code, by_client))
        del self.peers[peer.number]
        session = peer.session
        if session is None or any(other.session is session for other in self.peers.values()):
            return  # the session goes on in another connection
        session.channels = set(peer.channels)
        if by_client and code in LEFT_ON_PURPOSE:
            self.memory.forget([session])

    # Requests

    def said(self, peer: Peer, content: str | bytes) -> None:
        """Carry out a request, unless a fault says otherwise."""
        try:
            request = json.loads(content)
        except ValueError:
            request = None
        known = request if isinstance(request, dict) else {}
        self.records.note(Heard(peer.number, self.loop.time(), known, content))
        if not peer.is_open:
            return  # it came behind the end of the connection
        if peer.session is None:
            if peer.newcomer is not None:  # else no welcome is to come
                self._resume(peer, peer.newcomer, known)
            return
        if code := self._rates[peer.number].exceeded(self.loop.time(), content):
            self._refuse(peer, known, code)
            if self._rates[peer.number].refused_too_often:
                peer.close(CloseCode.TOO_MANY, "too many messages")
        elif not isinstance(request, dict):
            self._refuse(peer, known, "invalid_json")
        elif (fault := self._fault_on(peer, known)) is None:
            self._requests.carry_out(peer, known)
        else:
            self._misbehave(peer, known, fault)

    def _resume(self, peer: Peer, newcomer: Session, request: Message) -> None:
        """Welcome a client that says which session it had. Nothing else may come before its welcome."""
        if request.get("type") != "resume":
            peer.close(CloseCode.POLICY, "the first message after ?resume=1 is resume")
            return
        if peer.awaits_resume is not None:
            peer.awaits_resume.cancel()
        session = self.memory.session_of(str(request.get("token", "")))
        if session is None or self.faults_of(peer.number, kinds.ForgetSession):
            self._welcome(peer, newcomer, request.get("since", {}), resumed=False)
            return
        for other in list(self.peers.values()):
            if other.session is session and other is not peer:  # half-open, from the client's side
                session.channels = set(other.channels)
                other.close(CloseCode.SESSION_ENDED, "the session goes on in another connection")
        self._welcome(peer, session, request.get("since", {}), resumed=True)

    def _fault_on(self, peer: Peer, request: Message) -> OnRequest | None:
        """Return the first fault that is about this request, and count it."""
        for fault in (*self.faults.get(peer.number, ()), *self.always):
            if (
                isinstance(fault, OnRequest)
                and fault.when(request)
                and (fault.times is None or self._used[id(fault)] < fault.times)
            ):
                self._used[id(fault)] += 1
                return fault
        for fault in self.faults_of(peer.number, kinds.RefuseResubscription):
            if request.get("type") == "subscribe" and request.get("channel") == fault.channel:
                return kinds.Refuse(fault.code)
        return None

    def _misbehave(self, peer: Peer, request: Message, fault: OnRequest) -> None:
        match fault:
            case kinds.Refuse(code=code):
                self._refuse(peer, request, code)
            case kinds.CloseOn(code=code, reason=reason, carried_out=carried_out):
                if carried_out:
                    self._requests.carry_out(peer, request, silently=True)
                peer.close(code, reason)
            case kinds.NeverReply(carried_out=carried_out):
                if carried_out:
                    self._requests.carry_out(peer, request, silently=True)
            case kinds.ReplyLate(seconds=seconds):
                self.later(seconds, lambda: self._requests.carry_out(peer, request))
            case kinds.NotDurableYet(seconds=seconds):
                self._requests.publish_undurably(peer, request, seconds)

    @staticmethod
    def _refuse(peer: Peer, request: Message, code: str) -> None:
        answer: Message = {"type": "error", "code": code, "message": f"the stand-in says {code}"}
        peer.send({**answer, "id": request["id"]} if "id" in request else answer)

    @staticmethod
    def now() -> float:
        """Return the seconds since 1970, which uids are made of."""
        return time.time()
