"""The client as a state machine: events go in, effects come out. No I/O, no clock of its own.

    NEW -> TOKEN -> HANDSHAKE -> WELCOME -> OPEN
                \\________\\__________\\_______\\_-> PAUSE -> TOKEN -> ...
                                               \\-> IDLE  -> TOKEN, with the next call
                                               \\-> OVER     (by `close` or by the server)

The application sees NEW, TOKEN, HANDSHAKE and WELCOME as `connecting`, OPEN as `open`, PAUSE and IDLE as `waiting`, and
OVER as `closed`. docs/clients.md is the specification. The same machine in JavaScript is clients/js/src/machine.js, and
clients/cases/ has the table of cases that both pass.

Each method that takes an event takes the time first, in seconds by any clock that does not step back. Its effects are
taken afterwards with `take_effects`. Each attempt to connect has a number. Events of an earlier attempt are ignored.
"""

from collections.abc import Callable
from enum import Enum, auto

from wsd.client.conversation import Conversation
from wsd.client.effects import AskToken, Connect, Disconnect, Effect, Message, Send, State, StateChanged, StateName
from wsd.client.ends import TOO_BIG_CODE, End, Sequel, sequel
from wsd.client.errors import CLOSED, RequestError
from wsd.client.settings import (
    ANSWER_SECONDS,
    FIRST_PAUSE_SECONDS,
    GRACE_SECONDS,
    HANDSHAKE_SECONDS,
    LATE_SECONDS,
    LIVED_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    MAX_GRACES,
    PONG_SECONDS,
    TOKEN_SECONDS,
    WELCOME_SECONDS,
    Settings,
)
from wsd.client.texts import decoded, encoded, is_text

GOODBYE = 1000
"""The close code that ends the session, too."""

AWAY = 4000
"""The close code of a client that gives a connection up and comes back."""


class Phase(Enum):
    NEW = auto()
    TOKEN = auto()
    HANDSHAKE = auto()
    WELCOME = auto()
    OPEN = auto()
    PAUSE = auto()
    IDLE = auto()
    OVER = auto()


TOO_LONG = {
    Phase.TOKEN: "no token: the function did not return in time",
    Phase.HANDSHAKE: "the server did not answer the handshake in time",
    Phase.WELCOME: "no welcome came in time",
}


class Machine:
    """One client, from its first attempt to its end."""

    def __init__(self, settings: Settings, run_id: str, random: Callable[[], float]) -> None:
        """`run_id` makes idempotency keys unique among all clients. `random` returns numbers from 0 to below 1."""
        self.state = State("connecting")
        self.welcome: Message = {}  # the latest welcome
        self._settings = settings
        self._random = random
        self._effects: list[Effect] = []
        self._conversation = Conversation(settings, run_id, random, self._effects.append)
        self._phase = Phase.NEW
        self._attempt = 0
        self._phase_ends_at: float | None = None
        self._grace_until = float("-inf")  # no time is over before that: the process has just slept
        self._graces = 0  # times in a row that the process seems to have slept, without a sign of life from outside
        self._opened_at = 0.0  # the last welcome came then
        self._heard_at = 0.0  # the last word of the hub came then
        self._dead_at: float | None = None  # the connection counts as lost then, if the hub does not answer the ping
        self._failures = 0
        self._resume_token = ""
        self._resumes = False  # the client has positions to show, if not a session
        self._guest: dict[str, str] = {}  # the name that the hub has given a client without one
        self._closed_by_application = False
        self._sent_token = False

    def take_effects(self) -> list[Effect]:
        """Return what is to be done since the last call, in its order."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of requests that have no answer yet, and their bytes."""
        return len(self._conversation.requests), self._conversation.requests.bytes

    @property
    def deadline(self) -> float | None:
        """When `tick` must be called, unless another event comes before."""
        times = [self._conversation.deadline(self._grace_until)]
        times.append(self._phase_over_at())
        if self._phase is Phase.OPEN:
            times.append(self._dead_at if self._dead_at is not None else self._ping_at())
        return min((each for each in times if each is not None), default=None)

    # Events of the application

    def start(self, now: float) -> None:
        """Make the first attempt."""
        self._connect(now)

    def call(self, now: float, kind: str, fields: Message, timeout: float | None) -> int:
        """Send a request, now or once there is a connection. Return the number with which its answer comes.

        Raises RequestError.
        """
        self._check_open()
        request = self._conversation.call(now, kind, fields, timeout)
        self._go_on(now)
        return request

    def subscribe(self, now: float, channel: str, last: int, timeout: float | None, token: object = None) -> int:
        """Join a channel, with the `last` messages of its history. Return the number with which the answer comes.

        `token`: a text, or anything else that the effects AskChannelToken then have as `source`.

        Raises RequestError.
        """
        self._check_open()
        request = self._conversation.subscribe(now, channel, last, timeout, token)
        self._go_on(now)
        return request

    def unsubscribe(self, now: float, channel: str, timeout: float | None) -> int:
        """Leave a channel. Return the number with which the answer comes.

        Raises RequestError.
        """
        self._check_open()
        request = self._conversation.unsubscribe(now, channel, timeout)
        self._go_on(now)
        return request

    def cancel(self, now: float, request: int) -> None:
        """Forget a call. It is rejected with `cancelled`."""
        self._conversation.cancel(request)
        self._go_on(now)

    def discard_waiting(self, now: float) -> int:
        """Cancel all calls that were never sent. Return how many they were."""
        count = self._conversation.discard_waiting()
        self._go_on(now)
        return count

    def mark_read(self, now: float, channel: str, position: Message | None = None) -> None:
        """Tell the hub what the application has read in a channel that keeps receipts."""
        self._conversation.mark_read(now, channel, position)
        self._go_on(now)

    def hold_messages(self, now: float) -> None:
        """Take no more messages: the application does not keep up."""
        self._conversation.hold_messages()

    def take_messages(self, now: float) -> None:
        """Take messages again. The client reconnects for those that it has passed by."""
        if self._conversation.take_messages() and self._phase is Phase.OPEN:
            self.reconnect(now)

    def reconnect(self, now: float) -> None:
        """Begin a new connection at once, whatever the state. Raises RequestError after `close`."""
        if self._closed_by_application:
            raise RequestError(CLOSED, self.state.reason)
        self._abandon(AWAY)
        if self._phase is Phase.OPEN:
            self._conversation.lost(End(), blame=False)
        self._failures = 0
        self._connect(now)

    def wake(self, now: float) -> None:
        """Note that the network may be back, or that the page can be seen again: try at once."""
        if self._phase is Phase.PAUSE:
            self._connect(now)
        elif self._phase is Phase.HANDSHAKE and self._phase_ends_at is not None:
            # The attempt may have begun on a network that is gone.
            self._phase_ends_at = min(self._phase_ends_at, now + GRACE_SECONDS)
        elif self._phase is Phase.OPEN:
            waits_until = self._dead_at
            self._ping(now, GRACE_SECONDS)
            if waits_until is not None:  # a client that is woken again and again must notice it, too
                self._dead_at = min(waits_until, now + GRACE_SECONDS)

    def close(self, now: float) -> None:
        """End the client and its session."""
        if self._closed_by_application:
            return
        self._closed_by_application = True
        self._abandon(GOODBYE)
        self._phase, self._phase_ends_at = Phase.OVER, None
        reason = "closed by the application"
        self._change(State("closed", reason))
        self._conversation.over(reason)

    # Events of the transport

    def token_ready(self, now: float, attempt: int, token: str | None) -> None:
        """The application has given a token, or None for a client without one."""
        if attempt != self._attempt:
            return
        if self._phase is Phase.OPEN:
            self._conversation.refresh(token)
            self._go_on(now)
        if self._phase is not Phase.TOKEN:
            return
        self._sent_token = token is not None
        self._enter(now, Phase.HANDSHAKE, HANDSHAKE_SECONDS)
        query = dict(self._guest) if token is None else {}
        if self._resumes:
            query["resume"] = "1"
        self._effects.append(Connect(attempt, query, token))

    def token_failed(self, now: float, attempt: int, problem: str) -> None:
        """The application's token function has failed. An open connection goes on with the token that it has."""
        if attempt == self._attempt and self._phase is Phase.TOKEN:
            self._lost(now, End(reason=f"no token: {problem}"))

    def channel_token_ready(self, now: float, request: int, token: str | None) -> None:
        """The application has given the token of a channel, or None for a channel without one."""
        self._conversation.channel_token_ready(request, token)
        self._go_on(now)

    def channel_token_failed(self, now: float, request: int, problem: str) -> None:
        """The application's function for the token of a channel has failed."""
        self._conversation.channel_token_failed(now, request, problem)
        self._go_on(now)

    def opened(self, now: float, attempt: int) -> None:
        """The opening handshake is done."""
        if attempt != self._attempt or self._phase is not Phase.HANDSHAKE:
            return
        self._enter(now, Phase.WELCOME, WELCOME_SECONDS)
        if self._resumes:  # never in the URL, because URLs are logged
            resume = {"type": "resume", "token": self._resume_token, "since": self._conversation.channels.positions}
            self._effects.append(Send(attempt, encoded(resume)[0]))

    def received(self, now: float, attempt: int, text: str) -> None:
        """The hub has sent a text."""
        if attempt != self._attempt or self._phase not in (Phase.WELCOME, Phase.OPEN):
            return
        self._heard_at, self._dead_at, self._graces = now, None, 0
        message = decoded(text)
        if message is None:
            self._give_up(now, "the server sent something else than JSON objects")
        elif self._phase is Phase.OPEN:
            self._conversation.received(now, message)
            self._go_on(now)
        elif message.get("type") == "welcome":
            self._welcomed(now, message)

    def ended(self, now: float, attempt: int, end: End) -> None:
        """The WebSocket has ended, or could not be opened."""
        if attempt == self._attempt and self._phase in (Phase.HANDSHAKE, Phase.WELCOME, Phase.OPEN):
            self._lost(now, end)

    def tick(self, now: float) -> None:
        """Time has passed."""
        due = self.deadline
        if self._has_slept(now, due):
            if self._phase is Phase.OPEN:
                self._ping(now, GRACE_SECONDS)
        elif due is not None and now - due <= LATE_SECONDS:
            self._graces = 0
        over_at = self._phase_over_at()
        if over_at is not None and now >= over_at:
            if self._phase is Phase.PAUSE:
                self._connect(now)
            else:
                self._give_up(now, TOO_LONG[self._phase])
        elif self._phase is Phase.OPEN:
            if self._dead_at is not None and now >= self._dead_at:
                self._give_up(now, "the server does not answer")
            elif self._dead_at is None and now >= self._ping_at():
                self._ping(now, PONG_SECONDS)
        self._go_on(now)

    # Transitions

    def _connect(self, now: float) -> None:
        self._attempt += 1
        self._enter(now, Phase.TOKEN, TOKEN_SECONDS)
        self._change(self._state("connecting"))
        self._effects.append(AskToken(self._attempt))

    def _enter(self, now: float, phase: Phase, seconds: float) -> None:
        self._phase, self._phase_ends_at, self._graces = phase, now + seconds, 0

    def _phase_over_at(self) -> float | None:
        """Return when the phase is over at the latest. A pause is not prolonged by a sleep of the process."""
        if self._phase_ends_at is None or self._phase is Phase.PAUSE:
            return self._phase_ends_at
        return max(self._phase_ends_at, self._grace_until)

    def _welcomed(self, now: float, welcome: Message) -> None:
        if not isinstance(welcome.get("channels"), dict):
            self._give_up(now, "the server sent a welcome without channels")
            return
        self._phase, self._phase_ends_at = Phase.OPEN, None
        self._opened_at = now
        self.welcome = welcome
        resume_token = welcome.get("resume_token")
        self._resume_token = resume_token if is_text(resume_token) else ""
        self._resumes = True
        if not self._sent_token and not self._settings.has_name:
            names = {key: welcome.get(key) for key in ("user_id", "username")}
            self._guest = {key: name for key, name in names.items() if is_text(name) and name}
        self._change(State("open"))
        self._conversation.welcomed(now, self._attempt, welcome)
        self._go_on(now)

    def _lost(self, now: float, end: End) -> None:
        if self._phase is Phase.WELCOME and end.code == TOO_BIG_CODE:
            self._resumes = False  # the positions of all channels are too much for this hub
        if self._phase is Phase.OPEN:
            if now - self._opened_at >= LIVED_SECONDS:
                self._failures = 0
            self._conversation.lost(end)
        what = sequel(end, token_is_fixed=self._settings.token_is_fixed, was_welcomed=bool(self.welcome))
        if what is Sequel.STAY_AWAY:
            if end.ends_session:
                self._resume_token = ""
            self._phase, self._phase_ends_at = Phase.OVER, None
            self._change(State("closed", str(end), end.code, end.status, failures=self._failures))
            self._conversation.over(str(end))
        elif what is Sequel.WAIT_FOR_A_CALL and not self._conversation.requests:
            self._phase, self._phase_ends_at = Phase.IDLE, None
            self._change(State("waiting", str(end), end.code))
        else:
            # Full jitter: the clients of a worker that has ended must not all come back at the same moment.
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10))
            pause = min(max(0.0, end.retry_after), LONGEST_RETRY_AFTER_SECONDS) + longest * self._random()
            self._failures += 1
            self._enter(now, Phase.PAUSE, pause)
            self._change(State("waiting", str(end), end.code, end.status, pause, self._failures))

    def _give_up(self, now: float, reason: str) -> None:
        """End the attempt or the connection from this side, and come back."""
        self._abandon(AWAY)
        self._lost(now, End(reason=reason))

    def _abandon(self, code: int) -> None:
        if self._phase in (Phase.HANDSHAKE, Phase.WELCOME, Phase.OPEN):
            self._effects.append(Disconnect(self._attempt, code))

    def _has_slept(self, now: float, due: float | None) -> bool:
        """Return whether the process has slept since a time at which it was to act.

        What the hub said meanwhile may lie unread, so nothing is over yet.
        """
        if due is None or now - due <= LATE_SECONDS or self._graces >= MAX_GRACES:
            return False
        self._graces += 1
        self._grace_until = now + GRACE_SECONDS
        return True

    def _go_on(self, now: float) -> None:
        """Do what an event has made possible. Any event may be the first after a sleep."""
        self._has_slept(now, self._conversation.expiry(self._grace_until))
        if self._phase is Phase.IDLE and self._conversation.requests:
            self._connect(now)
        if self._phase is not Phase.OVER:
            self._conversation.act(now, self._grace_until)

    def _ping(self, now: float, patience: float) -> None:
        self._dead_at = now + patience
        self._conversation.ping(now)

    def _ping_at(self) -> float:
        """Return when a silent connection is tried with a ping."""
        sent_at = self._conversation.requests.oldest_sent_at
        quiet_until = self._heard_at + self._settings.ping_interval
        return quiet_until if sent_at is None else min(quiet_until, max(self._heard_at, sent_at) + ANSWER_SECONDS)

    def _check_open(self) -> None:
        if self._phase is Phase.OVER:
            raise RequestError(CLOSED, self.state.reason)

    def _state(self, name: StateName) -> State:
        """Return a state that keeps what is known of the last end."""
        before = self.state
        return State(name, before.reason, before.code, before.status, failures=self._failures)

    def _change(self, state: State) -> None:
        self.state = state
        self._effects.append(StateChanged(state))
