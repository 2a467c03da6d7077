"""The client's side of the conversation with the hub: calls and their answers, channels and their messages. No I/O."""

from collections.abc import Callable
from typing import Any

from wsd.client.channel_tokens import ChannelTokens
from wsd.client.channels import OWN_CHANNELS, Channels, position_in
from wsd.client.effects import (
    AskNewToken,
    Deliver,
    Effect,
    Gap,
    Left,
    Message,
    PresenceChanged,
    Reject,
    Resolve,
    Send,
)
from wsd.client.ends import TOO_BIG_CODE, End
from wsd.client.errors import (
    CANCELLED,
    CLOSED,
    INVALID_CHANNEL,
    NO_TOKEN,
    NOT_ENCODABLE,
    TIMEOUT,
    TOO_BIG,
    UNANSWERED,
    RequestError,
)
from wsd.client.own_token import OwnToken
from wsd.client.pacing import Pacing
from wsd.client.requests import Progress, Request, Requests
from wsd.client.settings import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, MAX_TRIES, READ_SECONDS, Settings
from wsd.client.texts import encoded, is_text

KEYED = ("publish", "broadcast", "direct")
"""Requests that are sent with an idempotency key, so that the hub carries them out once."""

RETRIED = ("rate_limited", "byte_rate_limited", "not_stored", "unavailable")
"""Error codes of a hub that can carry out the same request later."""

ANSWERS = ("ack", "pong", "presence", "history", "delivered")

TOKEN_NEEDED = "token_needed"  # noqa: S105 - no password
"""The reason why a client is out of a channel that it may enter again with another token."""

TAKEN_OUT = "server"
"""The reason why a client is out of a channel from which the application of the hub has taken it."""

TAKEN_OUT_TEXT = "the server has taken the client out of the channel"

SESSION_LOST = "session_lost"
"""The reason why a client is out of a channel that the hub had put it into, and that its new session does not have."""

SUBSCRIBE_BYTES = 300
"""About the size of a subscription without the channel's name. Its text is made when it is sent."""


class Conversation:
    """What a client and the hub say to each other, over one connection after the other."""

    def __init__(
        self, settings: Settings, run_id: str, random: Callable[[], float], emit: Callable[[Effect], None]
    ) -> None:
        """`run_id` makes idempotency keys unique among all clients. `random` returns numbers from 0 to below 1."""
        self.requests = Requests(settings)
        self.channels = Channels()
        self.own_token = OwnToken(random, is_fixed=settings.token_is_fixed)
        self._channel_tokens = ChannelTokens(random, emit)
        self._random = random
        self._emit = emit
        self._run_id = run_id
        self._next_id = 1
        self._attempt: int | None = None  # the connection that is open
        self._pacing = Pacing(None, 0.0)
        self._max_message_bytes: float | None = None  # as far as a welcome has said
        self._send_at: float | None = None  # the pace allows the next request then
        self._held_until: float | None = None  # after the hub could not carry out a request
        self._retries = 0  # refusals for the moment, in a row
        self._subscribed: dict[str, Message] = {}  # answers to subscriptions, whose acks follow
        self._read: dict[str, Message] = {}  # positions that the application has read, and the hub has not confirmed
        self._read_at: float | None = None  # when the hub is told, or may be told again
        self._telling_read = False  # a ping that tells it has no answer yet
        self._holding = False  # the application does not keep up
        self._passed_by: set[str] = set()  # channels of messages that came meanwhile

    # Calls of the application

    def call(self, now: float, kind: str, fields: Message, timeout: float | None) -> int:
        """Queue a request. Return its number, with which the answer comes.

        Raises RequestError for data that cannot be sent, and if too much waits already.
        """
        request_id = self._next_id
        if "channel" in fields:
            _check_channel(fields["channel"])
        fields = {"type": kind, **fields, "id": request_id}
        if kind in KEYED:
            fields["idempotency_key"] = f"{self._run_id}-{request_id}"
        text, size = encoded(fields)
        self._check_size(size)
        channel = fields.get("channel", "")
        if kind == "broadcast":
            channel = "broadcast"
        elif kind == "direct":
            channel = f"!{fields.get('user_id')}"
        self._add(Request(request_id, kind, text, size, channel, deadline=_deadline(now, timeout)))
        return request_id

    def subscribe(self, now: float, channel: str, last: int, timeout: float | None, token: object = None) -> int:
        """Queue a request to join a channel. `last`: how many of the newest messages the application wants first.

        `token`: a text, or what the application is asked with for one. None: that of an earlier call, if there is one.

        Raises RequestError for a name that no channel can have, and if too much waits already.
        """
        _check_joinable(channel)
        request = self._joining(channel, token, last=last, deadline=_deadline(now, timeout))
        with self.channels.changing(channel) as membership:
            membership.called(request.id, joins=True)
            membership.token = membership.token if token is None else token
        return request.id

    def unsubscribe(self, now: float, channel: str, timeout: float | None) -> int:
        """Queue a request to leave a channel. From now on nothing of the channel is delivered.

        Raises RequestError for a name that no channel can have, and if too much waits already.
        """
        _check_joinable(channel)
        text, size = encoded({"type": "unsubscribe", "channel": channel, "id": self._next_id})
        request = Request(self._next_id, "unsubscribe", text, size, channel, deadline=_deadline(now, timeout))
        self._add(request)
        with self.channels.changing(channel) as membership:
            membership.called(request.id, joins=False)
        self._passed_by.discard(channel)
        return request.id

    def cancel(self, request_id: int) -> None:
        """Forget a call. If it was to join a channel, the client does not join it."""
        request = self.requests.get(request_id)
        if request is not None:
            self._give_up(request, CANCELLED, "cancelled by the application")

    def discard_waiting(self) -> int:
        """Cancel all calls that were never sent. Return how many they were."""
        found = self.requests.never_sent()
        for request in found:
            self._give_up(request, CANCELLED, "discarded by the application")
        return len(found)

    def mark_read(self, now: float, channel: str, position: Message | None) -> None:
        """Note what the application has read in a channel: up to `position`, or everything that was delivered.

        Raises RequestError for a position that is none.
        """
        _check_channel(channel)
        if position is None:
            at = self.channels.positions.get(channel)
        elif (at := position_in(channel, position)) is None:
            raise RequestError(NOT_ENCODABLE, "a position has an offset and an epoch")
        if at is not None:
            self._read[channel] = at
            if self._read_at is None:
                self._read_at = now

    def hold_messages(self) -> None:
        """Deliver no more messages: the application does not keep up."""
        self._holding = True

    def take_messages(self) -> bool:
        """Deliver messages again. Return True if the client has to reconnect for those that it has passed by."""
        self._holding = False
        passed_by, self._passed_by = self._passed_by, set()
        for channel in sorted(passed_by - self.channels.positions.keys()):
            self._emit(Gap(channel, "slow_consumer"))
        return not passed_by.isdisjoint(self.channels.positions)

    def refresh(self, token: str | None) -> None:
        """Show the hub another token of the client itself, if the application was asked for one."""
        if self.own_token.answered() and is_text(token):
            text, size = encoded({"type": "refresh", "token": token, "id": self._next_id})
            self._add(Request(self._next_id, "refresh", text, size, internal=True))

    def channel_token_ready(self, request_id: int, token: str | None) -> None:
        """Note the token of a channel, or None if it has none."""
        request = self._channel_tokens.take(request_id)
        if request is not None:
            self.requests.prepared(request, token or "")

    def channel_token_failed(self, now: float, request_id: int, problem: str) -> None:
        """Note that the application gave no token of a channel."""
        request = self._channel_tokens.failed(now, request_id)
        if request is not None:
            self._refused(request, NO_TOKEN, f"no token: {problem}")

    # The connection

    def welcomed(self, now: float, attempt: int, welcome: Message) -> None:
        """Begin to talk over a new connection: enter the channels, and send what waits."""
        self._attempt = attempt
        limits = welcome.get("limits")
        self._pacing = Pacing(limits if isinstance(limits, dict) else None, now)
        self._max_message_bytes = self._pacing.max_message_bytes
        self._held_until = None
        states = {channel: state for channel, state in welcome["channels"].items() if isinstance(state, dict)}
        refused = welcome.get("refused")
        for channel, reason in (refused if isinstance(refused, dict) else {}).items():
            if self.channels.is_by_hub(channel):
                self._taken_out(channel, str(reason))
        lost, gaps = self.channels.welcomed(states)
        for channel in lost:
            self._passed_by.discard(channel)
            if welcome.get("resumed") is True:
                self._emit(Left(channel, TAKEN_OUT, TAKEN_OUT_TEXT))
            else:
                self._emit(Left(channel, SESSION_LOST, "the new session is not in the channel, unlike the one before"))
        for gap in gaps:
            self._emit(gap)
        for channel in list(self.channels.memberships):
            self._repair(channel)
        self.own_token.expires_in(now, welcome.get("token_expires_in"))
        if self._read:
            self._read_at = now

    def lost(self, end: End, *, blame: bool = True) -> None:
        """Note that the connection has ended. What is unanswered is sent again on the next one.

        `blame`: a request that was on its way may be the cause.
        """
        self._hang_up()
        self._subscribed.clear()
        largest = self.requests.largest_in_flight()
        if end.code == TOO_BIG_CODE and largest is not None:
            self._refused(largest, TOO_BIG, "the hub has closed the connection because the message is too big")
        suspect, dropped = self.requests.connection_lost(blame=blame)
        for request in dropped:
            self._channel_tokens.take(request.id)
            self._give_up_membership(request, is_on_its_way=False)
        for request in self.requests.preparing():
            self._channel_tokens.add(request)
        if suspect is not None:
            problem = f"the connection was lost {MAX_TRIES} times before an answer came"
            self._give_up(suspect, UNANSWERED, problem)

    def over(self, reason: str) -> None:
        """Reject all calls: the client is closed."""
        self._hang_up()
        for request in self.requests.take_all():
            self._channel_tokens.take(request.id)
            self._give_up_membership(request, is_on_its_way=False)
            if not request.internal:
                self._emit(Reject(request.id, CLOSED, reason))

    def _hang_up(self) -> None:
        self._attempt = self._send_at = self._held_until = None
        self.own_token.forget()
        self._channel_tokens.hang_up()
        self._telling_read = False

    # Time

    def deadline(self, grace_until: float) -> float | None:
        """Return when `act` must be called again. `grace_until`: no call expires before."""
        times: list[float | None] = []
        if self._attempt is not None:
            times = [self._send_at, self._held_until, None if self._telling_read else self._read_at]
            times += [self.own_token.ask_at, self._channel_tokens.deadline(grace_until)]
        times.append(self.expiry(grace_until))
        return min((each for each in times if each is not None), default=None)

    def expiry(self, grace_until: float) -> float | None:
        """Return a time before which no call expires."""
        first = self.requests.first_deadline
        return None if first is None else max(first, grace_until)

    def act(self, now: float, grace_until: float) -> None:
        """Reject calls whose time is over, and send what may be sent."""
        if now >= grace_until:
            for request in self.requests.expired(now):
                hint = ": it may have been carried out" if request.was_sent else ": it was never sent"
                self._give_up(request, TIMEOUT, f"no answer came in time{hint}")
        if self._attempt is None:
            return
        for channel in self._channel_tokens.to_renew(now):
            self._renew(channel)
        if self.own_token.is_due(now):
            self._emit(AskNewToken(self._attempt))
        for number in self._channel_tokens.act(now, grace_until):
            self.channel_token_failed(now, number, "the function did not return in time")
        if self._held_until is not None and now >= self._held_until:
            self._held_until = None
        if self._read_at is not None and now >= self._read_at and not self._telling_read:
            self._tell_read(now)
        if self._held_until is None:
            self._send_waiting(now)

    def ping(self, now: float) -> None:
        """Ask the hub for a sign of life."""
        self.say(now, '{"type":"ping"}')

    def say(self, now: float, text: str) -> None:
        """Send a text that has no answer of its own."""
        assert self._attempt is not None
        self._pacing.sent(now, len(text.encode()))
        self._emit(Send(self._attempt, text))

    # What the hub says

    def received(self, now: float, message: Message) -> None:
        """Handle a message of the hub. One of an unknown type is ignored: the hub may be newer."""
        kind, channel = message.get("type"), message.get("channel")
        if kind in ANSWERS or kind == "error":
            self._answered(now, message)
        elif not isinstance(channel, str) or not channel:
            return
        elif self._holding and kind in ("message", "gap", "position"):
            if kind != "position" and self.channels.hears(channel):
                self._passed_by.add(channel)
        elif kind == "message":
            if self.channels.is_new(message):
                self._emit(Deliver(message))
        elif kind == "subscribed":
            self._entered(channel, message)
        elif kind == "unsubscribed":
            self._taken_out(channel, str(message.get("reason", "")))
        elif not self.channels.hears(channel):
            return
        elif kind in ("gap", "position"):
            self.channels.moved(channel, message)
            if kind == "gap":
                self._emit(Gap(channel, str(message.get("reason", ""))))
        elif kind == "presence_changed":
            self._emit(PresenceChanged(message))

    def _entered(self, channel: str, state: Message) -> None:
        """Note the answer to a subscription, whose ack follows, or that the hub has put the client into a channel."""
        membership = self.channels.memberships.get(channel)
        if membership is not None and any(each.joins for each in membership.pending.values()):
            self._subscribed[channel] = state
            with self.channels.changing(channel):
                membership.entered()
        else:
            self.channels.put_in(channel)
        if gap := self.channels.placed(channel, state):
            self._emit(gap)

    def _taken_out(self, channel: str, reason: str) -> None:
        """Note that the hub has taken the client out of a channel. It goes in again where another token helps."""
        self._passed_by.discard(channel)
        if self.channels.taken_out(channel, for_good=reason != TOKEN_NEEDED):
            self._emit(Left(channel, reason, TAKEN_OUT_TEXT))
        self._repair(channel)

    def _answered(self, now: float, message: Message) -> None:
        request = self.requests.get(message.get("id"))
        if request is None or request.progress in (Progress.PREPARING, Progress.WAITING):
            return
        if message["type"] == "error":
            code, text = str(message.get("code", "")), str(message.get("message", ""))
            is_undone = request.is_abandoned and request.kind == "subscribe"  # by not being carried out
            if code in RETRIED and not is_undone:
                self.requests.send_again(request)
            else:
                self._refused(request, code, text)
            if code in RETRIED:
                self._hold(now)
            return
        self._retries = 0
        if message.get("durable") is False:
            self.requests.accepted(request)  # another ack follows once the message is stored
            return
        self._finish(request)
        answer = message
        if request.kind == "subscribe":
            if request.source is not None:
                self._channel_tokens.expires_in(now, request.channel, message.get("token_expires_in"))
            answer = self._subscribed.pop(request.channel, message)
        if request.kind == "refresh":
            self.own_token.expires_in(now, message.get("token_expires_in"))
        if request.is_membership:
            with self.channels.changing(request.channel) as membership:
                membership.done(request.id)
            self._repair(request.channel)
        if not request.internal:
            self._emit(Resolve(request.id, answer))

    def _hold(self, now: float) -> None:
        """Send nothing for a while, after the hub could not carry out a request."""
        if self._held_until is None or self._held_until <= now:
            longest = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(self._retries, 10))
            self._held_until, self._send_at = now + longest * (0.5 + 0.5 * self._random()), None
            self._retries += 1

    def _refused(self, request: Request, code: str, text: str) -> None:
        """Reject a request that the hub has not carried out, and never will."""
        self._retries = 0
        self._finish(request)
        if request.is_membership:
            with self.channels.changing(request.channel) as membership:
                if request.kind == "subscribe" and self._subscribed.pop(request.channel, None) is not None:
                    membership.put_in()  # what the hub said was no answer to this request
                is_lost = membership.refused(request.id)
            if is_lost:
                self._emit(Left(request.channel, code, text))
            self._repair(request.channel)
        if not request.internal:
            self._emit(Reject(request.id, code, text))

    def _give_up(self, request: Request, code: str, text: str) -> None:
        """Reject a call whose answer nobody waits for any more."""
        is_on_its_way = request.is_membership and request.progress is Progress.SENT
        if is_on_its_way:
            self.requests.abandon(request)  # its answer still says where the client is
        else:
            self._finish(request)
        self._give_up_membership(request, is_on_its_way=is_on_its_way)
        self._repair(request.channel)
        self._emit(Reject(request.id, code, text))

    def _give_up_membership(self, request: Request, *, is_on_its_way: bool) -> None:
        if request.is_membership:
            with self.channels.changing(request.channel) as membership:
                membership.given_up(request.id, was_sent=request.was_sent, is_on_its_way=is_on_its_way)

    def _repair(self, channel: str) -> None:
        """Send what brings the client where it belongs. Without a connection, the next one does it."""
        membership = self.channels.memberships.get(channel)
        if self._attempt is not None and membership is not None and (kind := membership.repair()):
            membership.asked(self._next_id, joins=kind == "subscribe")
            if kind == "subscribe":
                self._joining(channel, None, internal=True)
                return
            text, size = encoded({"type": kind, "channel": channel, "id": self._next_id})
            self._add(Request(self._next_id, kind, text, size, channel, internal=True))

    def _renew(self, channel: str) -> None:
        """Subscribe to a channel again, with another token. If that fails, the hub takes the client out of it later."""
        membership = self.channels.memberships.get(channel)
        if membership is not None and membership.inside and membership.settled and not membership.pending:
            membership.asked(self._next_id, joins=True)
            self._joining(channel, None, internal=True)

    def _finish(self, request: Request) -> None:
        """Remove a request."""
        self.requests.remove(request)
        self._channel_tokens.take(request.id)
        if request.positions:
            self._telling_read = False
            self._read = {one: at for one, at in self._read.items() if request.positions.get(one) != at}

    # What the client says

    def _add(self, request: Request) -> None:
        self.requests.add(request)
        self._next_id += 1

    def _joining(self, channel: str, token: object, **options: Any) -> Request:
        """Queue a subscription with a token, or with that of an earlier call for the channel. Raises RequestError."""
        membership = self.channels.memberships.get(channel)
        if token is None and membership is not None:
            token = membership.token
        text = token if isinstance(token, str) else ""
        asks = token is not None and not isinstance(token, str)
        request = Request(
            self._next_id,
            "subscribe",
            "",  # it is made when it is sent
            SUBSCRIBE_BYTES + encoded({"channel": channel, "token": text})[1],
            channel,
            token=text,
            source=token if asks else None,
            progress=Progress.PREPARING if asks else Progress.WAITING,
            **options,
        )
        self._add(request)
        if asks:
            self._channel_tokens.add(request)
        return request

    def _tell_read(self, now: float) -> None:
        self._read_at = None
        if self._read:
            positions = dict(self._read)
            self._telling_read = True
            text, size = encoded({"type": "ping", "positions": positions, "id": self._next_id})
            self._add(Request(self._next_id, "ping", text, size, internal=True, positions=positions))
            self._read_at = now + READ_SECONDS

    def _send_waiting(self, now: float) -> None:
        self._send_at = None
        pacing = self._pacing
        assert self._attempt is not None
        while (request := self.requests.next(pacing.window, pacing.window_bytes, self._cost)) is not None:
            size = request.size
            if request.kind == "subscribe":
                request.text, size = encoded(self._subscription(request))
            try:
                self._check_size(size)
            except RequestError as exc:
                self._refused(request, exc.code, exc.message)
                continue
            wait = pacing.wait(now, request.size, request.published_in)
            if wait > 0:
                self._send_at = now + wait
                return
            self.requests.sent(request, now, self._cost(request))
            pacing.sent(now, request.size, request.published_in)
            self._emit(Send(self._attempt, request.text))

    def _cost(self, request: Request) -> int:
        return self._pacing.cost(request.size, request.published_in)

    def _subscription(self, request: Request) -> Message:
        """Return a subscription as it is to be sent now: after the position that the client knows, if it knows one."""
        channel = request.channel
        fields: Message = {"type": "subscribe", "channel": channel, "id": request.id}
        if channel in self.channels.positions:
            fields["since"] = self.channels.positions[channel]
        elif request.last:
            fields["last"] = request.last
        if request.token:
            fields["token"] = request.token
        return fields

    def _check_size(self, size: int) -> None:
        limit = self._max_message_bytes
        if limit is not None and size > limit:
            raise RequestError(TOO_BIG, f"the message has {size} bytes, the hub takes {limit:.0f}")


def _check_channel(channel: object) -> None:
    if not is_text(channel):
        raise RequestError(INVALID_CHANNEL, "the name of a channel is a text")


def _check_joinable(channel: object) -> None:
    _check_channel(channel)
    if channel in OWN_CHANNELS:
        raise RequestError(INVALID_CHANNEL, f"every client is in {channel}, and can neither join nor leave it")


def _deadline(now: float, timeout: float | None) -> float | None:
    return None if timeout is None else now + timeout
