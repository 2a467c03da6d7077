"""The requests of a client that have no answer yet, in the order of the calls."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from wsd.client.effects import Message
from wsd.client.errors import QUEUE_FULL, RequestError
from wsd.client.settings import MAX_TRIES, Settings

READS = ("presence", "history", "delivered")
"""Requests that change nothing, so that later ones may overtake them."""


MANY = 100
"""So many requests that were cancelled may be in the queue."""


class Progress(Enum):
    """How far a request has come: (PREPARING ->) WAITING -> SENT -> (ACCEPTED ->) answered.

    PREPARING: the application is asked for the token of the channel, once there is a connection. ACCEPTED: the hub has
    the message, and says later that it is stored. A request that the hub could not carry out, or whose connection
    ended, is WAITING or PREPARING again.
    """

    PREPARING = auto()
    WAITING = auto()
    SENT = auto()
    ACCEPTED = auto()


@dataclass
class Request:
    """One call of the application, or a request that the client sends for itself."""

    id: int
    kind: str  # "publish", "subscribe" and so on
    text: str  # the JSON object; that of a subscription is made when it is sent
    size: int  # of the text
    channel: str = ""
    last: int = 0  # of a subscription: the messages wanted from the history
    token: str = ""  # of a subscription
    source: object = None  # what the application is asked with for a token, on each connection anew
    positions: Message = field(default_factory=dict)  # of a ping: what the application has read
    deadline: float | None = None
    internal: bool = False  # no call waits for the answer
    is_abandoned: bool = False  # a call did, and was given up while the request was on its way
    progress: Progress = Progress.WAITING
    sent_at: float | None = None  # the last time that it was sent
    lost: int = 0  # connections that ended while this was the first request on its way

    @property
    def was_sent(self) -> bool:
        """True if the hub may have seen the request."""
        return self.sent_at is not None

    @property
    def is_membership(self) -> bool:
        """True if the request joins or leaves its channel."""
        return self.kind in ("subscribe", "unsubscribe")

    @property
    def published_in(self) -> str | None:
        """The channel that the hub counts for a message, or None for other requests."""
        return self.channel if self.kind in ("publish", "broadcast", "direct") else None


class Requests:
    """Requests in their order, which holds through lost connections and refusals for the moment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._all: dict[int, Request] = {}
        self._to_send: deque[Request] = deque()  # those that are WAITING, in the order of the calls
        self._urgent: deque[Request] = deque()  # those of the client itself, which go first
        self._calls = self._bytes = 0
        self._in_flight: dict[int, int] = {}  # by id, the oldest first: what the hub counts for the request
        self._in_flight_bytes = 0
        self._alone_until = 0  # up to this id, requests are sent one at a time
        self._first_deadline: float | None = None  # no deadline is earlier

    def __len__(self) -> int:
        """Return the number of calls. What the client sends for itself does not count."""
        return self._calls

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def oldest_sent_at(self) -> float | None:
        """When the first of the requests was sent to which the hub owes an answer."""
        return self._all[next(iter(self._in_flight))].sent_at if self._in_flight else None

    @property
    def first_deadline(self) -> float | None:
        """A time before which no request expires."""
        return self._first_deadline

    def get(self, request_id: object) -> Request | None:
        return self._all.get(request_id) if type(request_id) is int else None  # True is an int, too, and equals 1

    def add(self, request: Request) -> None:
        """Add a request behind those of its kind: of calls, or of the client itself.

        Raises RequestError `queue_full`.
        """
        settings = self._settings
        if not request.internal:
            if self._calls >= settings.max_waiting:
                raise RequestError(QUEUE_FULL, f"{settings.max_waiting} calls wait for their answers already")
            if self._bytes + request.size > settings.max_waiting_bytes:
                problem = (
                    f"{self._bytes} bytes wait for their answers already, at most {settings.max_waiting_bytes} may"
                )
                raise RequestError(QUEUE_FULL, problem)
            self._calls += 1
            self._bytes += request.size
        self._all[request.id] = request
        if request.progress is Progress.WAITING:
            (self._urgent if request.internal else self._to_send).append(request)
        if request.deadline is not None:
            earliest = self._first_deadline
            self._first_deadline = request.deadline if earliest is None else min(earliest, request.deadline)

    def prepared(self, request: Request, token: str) -> None:
        """Note the token of a subscription, which may now be sent in its turn."""
        self._set_token(request, token)
        request.progress = Progress.WAITING
        if request.internal:
            self._urgent.append(request)
        else:
            self._to_send = self._in_order(Progress.WAITING)

    def next(self, window: int, window_bytes: float, cost: Callable[[Request], int]) -> Request | None:
        """Return the request to send next, or None if there is none, or the window is full.

        `cost`: the bytes that the hub counts for a request.
        """
        queue = self._next_queue()
        if queue is None:
            return None
        request = queue[0]
        if self._in_flight and (
            request.id <= self._alone_until
            or next(iter(self._in_flight)) <= self._alone_until
            or len(self._in_flight) >= window
            or self._in_flight_bytes + cost(request) > window_bytes
        ):
            return None
        return request

    def sent(self, request: Request, now: float, cost: int) -> None:
        """Note that the request that is next was sent."""
        queue = self._next_queue()
        assert queue is not None and queue[0] is request
        queue.popleft()
        request.progress = Progress.SENT
        request.sent_at = now
        self._in_flight[request.id] = cost
        self._in_flight_bytes += cost

    def accepted(self, request: Request) -> None:
        """Note that the hub has a message that it will store later. It leaves the window."""
        self._from_flight(request)
        request.progress = Progress.ACCEPTED

    def send_again(self, request: Request) -> None:
        """Note that the hub could not carry out a request now. It is sent again, before all later ones.

        Until it is answered, requests are sent one at a time, so that no later one overtakes it again. One that changes
        nothing goes behind all others instead, so that it does not keep them from being carried out.
        """
        self._from_flight(request)
        request.progress = Progress.WAITING
        if request.internal:
            self._urgent.append(request)
            return
        if request.kind in READS:
            self._to_send.append(request)
            return
        self._alone_until = max(self._alone_until, request.id)
        self._to_send = self._in_order(Progress.WAITING)

    def remove(self, request: Request) -> None:
        """Forget a request that is answered, cancelled or expired."""
        self._from_flight(request)
        if self._all.pop(request.id, None) is None:
            return
        if not request.internal:
            self._calls -= 1
            self._bytes -= request.size
        if len(self._to_send) > 2 * len(self._all) + MANY:  # nothing takes them out while there is no connection
            self._to_send = deque(one for one in self._to_send if one.id in self._all)

    def abandon(self, request: Request) -> None:
        """Note that nobody waits any more for the answer to a request that is on its way.

        It leaves the window, so that it keeps nothing waiting, and is not sent again.
        """
        self._from_flight(request)
        self._calls -= 1
        self._bytes -= request.size
        request.internal = request.is_abandoned = True
        request.deadline = None

    def expired(self, now: float) -> list[Request]:
        """Return the requests whose deadline has passed."""
        if self._first_deadline is None or now < self._first_deadline:
            return []
        late = [one for one in self._all.values() if one.deadline is not None and one.deadline <= now]
        rest = [one.deadline for one in self._all.values() if one.deadline is not None and one.deadline > now]
        self._first_deadline = min(rest, default=None)
        return late

    def connection_lost(self, *, blame: bool) -> tuple[Request | None, list[Request]]:
        """Prepare to send everything again on the next connection, in the order of the calls.

        A request that was on its way may be the cause of the end. So those that were on their way are sent one at a
        time, until all of them are answered. `blame`: False for an end that the client itself wanted.

        Return the first of them if it has been lost too often, and the requests that are not sent again because no
        call waits for them.
        """
        first = self._all[next(iter(self._in_flight))] if self._in_flight and blame else None
        if first is not None:
            first.lost += 1
            self._alone_until = max(self._alone_until, *self._in_flight)
        self._in_flight.clear()
        self._in_flight_bytes = 0
        dropped = [one for one in self._all.values() if one.internal]
        for request in dropped:
            self.remove(request)
        for request in self._all.values():
            request.progress = Progress.WAITING
            if request.source is not None:
                self._set_token(request, "")
                request.progress = Progress.PREPARING
        self._to_send = self._in_order(Progress.WAITING)
        self._urgent.clear()
        is_suspect = first is not None and not first.internal and first.lost >= MAX_TRIES
        return first if is_suspect else None, dropped

    def largest_in_flight(self) -> Request | None:
        """Return the largest request that is on its way: the one that was too big for the hub."""
        return max((self._all[each] for each in self._in_flight), key=lambda one: one.size, default=None)

    def take_all(self) -> list[Request]:
        """Remove and return all requests, in their order."""
        found = sorted(self._all.values(), key=lambda one: one.id)
        self._all.clear()
        self._to_send.clear()
        self._urgent.clear()
        self._in_flight.clear()
        self._calls = self._bytes = self._in_flight_bytes = 0
        self._first_deadline = None
        return found

    def preparing(self) -> list[Request]:
        """Return the subscriptions for which the application is asked for a token."""
        return [one for one in self._all.values() if one.progress is Progress.PREPARING]

    def never_sent(self) -> list[Request]:
        """Return the calls that were never sent, in their order."""
        return [one for one in self._all.values() if not one.was_sent and not one.internal]

    def _set_token(self, request: Request, token: str) -> None:
        change = len(token.encode()) - len(request.token.encode())
        request.token = token
        request.size += change
        if not request.internal:
            self._bytes += change

    def _next_queue(self) -> deque[Request] | None:
        for queue in (self._urgent, self._to_send):
            while queue and queue[0].id not in self._all:  # it was cancelled
                queue.popleft()
            if queue:
                return queue
        return None

    def _in_order(self, progress: Progress) -> deque[Request]:
        found = [one for one in self._all.values() if one.progress is progress and not one.internal]
        return deque(sorted(found, key=lambda one: one.id))

    def _from_flight(self, request: Request) -> None:
        if request.id in self._in_flight:
            self._in_flight_bytes -= self._in_flight.pop(request.id)
