"""What runs a client: its state machine with a clock, WebSockets and the functions of the application."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from wsd.client.address import impossible, problem_with_token
from wsd.client.callbacks import Callbacks, Token, TokenFunction, token_of
from wsd.client.effects import (
    AskChannelToken,
    AskNewToken,
    AskToken,
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Gap,
    Left,
    Message,
    PresenceChanged,
    Reject,
    Resolve,
    Send,
    State,
    StateChanged,
)
from wsd.client.errors import RequestError
from wsd.client.inbox import Departure, Inbox, event_of_gap
from wsd.client.link import CLOSE_SECONDS, Connector, Link
from wsd.client.machine import Machine
from wsd.client.records import Position, position_of
from wsd.client.texts import is_text

logger = logging.getLogger("wsd.client")

TAKEN_IN_A_ROW = 1000
"""After so many messages that the application has taken, everything else in the process gets a turn."""

MAX_STATES = 1000
"""The states that wait for a function which does not return. Older ones are dropped."""


class Engine:
    """One client while it runs. All of it belongs to one event loop, and all its tasks to one task.

    Nothing that reads the WebSocket waits for the application. Functions of the application run in two tasks: one for
    messages and what belongs to them, one for states, so that a state is told while a function for messages waits.
    """

    def __init__(
        self, machine: Machine, connector: Connector, inbox: Inbox, token: Token | None, callbacks: Callbacks
    ) -> None:
        self.machine = machine
        self.inbox = inbox
        self.handed: dict[str, Position] = {}  # by channel: the last message that the application was given
        self._connector = connector
        self._token = token
        self._callbacks = callbacks
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._links: dict[int, tuple[Link, asyncio.Task[None]]] = {}  # by attempt
        self._asking: asyncio.Task[None] | None = None  # for a token
        self._states: deque[State] = deque(maxlen=MAX_STATES)
        self._states_news = asyncio.Event()
        self._holding = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    def start(self) -> None:
        """Begin to run in the current event loop."""
        if self._running is not None or self.is_closing:
            raise RuntimeError("a client can be started once; create another one")
        self._loop = asyncio.get_running_loop()
        self._running = self._loop.create_task(self._run(), name="wsd client")

    async def close(self) -> None:
        """End the client. Return once all its tasks have ended, unless the caller is one of them."""
        self._end()
        if self._running is None or asyncio.current_task() in self._tasks:
            return
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()

    async def ask(self, queue: Callable[[float], int]) -> Message:
        """Queue a request by `queue(now)`, which returns its number. Return the answer.

        Raises RequestError. If the caller is cancelled, the request is forgotten.
        """
        now = self._now()
        number = queue(now)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self.act()
        try:
            return await answer
        except asyncio.CancelledError:
            if self._answers.pop(number, None) is not None:
                self.do(lambda now: self.machine.cancel(now, number))
            raise

    def do(self, event: Callable[[float], Any]) -> Any:
        """Pass an event to the machine by `event(now)`, and do what follows from it."""
        found = event(self._now())
        self.act()
        return found

    def act(self) -> None:
        """Do what the machine wants done, and set the timer."""
        while True:
            self._stem_messages()
            effects = self.machine.take_effects()
            if not effects:
                break
            for effect in effects:
                self._carry_out(effect)
        self._set_timer()

    def taken(self, message: Message) -> None:
        """Note that the application was given a message, so that there may be room for others."""
        if message["type"] == "message" and (position := position_of(message)):
            self.handed[message["channel"]] = position
        if self._holding and self.inbox.has_room:
            self.act()

    # Effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(attempt, text):
                if attempt in self._links:
                    self._links[attempt][0].send(text)
            case Deliver(message):
                self.inbox.put(message)
            case Resolve(request, answer):
                if (waiting := self._answers.pop(request, None)) and not waiting.done():
                    waiting.set_result(answer)
            case Reject(request, code, text):
                if (waiting := self._answers.pop(request, None)) and not waiting.done():
                    waiting.set_exception(RequestError(code, text))
            case AskToken(attempt) | AskNewToken(attempt):
                self._ask_for_token(attempt)
            case AskChannelToken(request, _, source):
                self._spawn(self._call_for_channel_token(request, source))
            case Connect(attempt, query, token):
                self._connect(attempt, query, token)
            case Disconnect(attempt, code):
                self._disconnect(attempt, code)
            case Gap(channel, reason):
                if not self.inbox.put(event_of_gap(channel, reason)):
                    logger.warning("messages of %s were lost: %s", channel, reason)
            case PresenceChanged(event):
                self.inbox.put(event)
            case Left():
                self.inbox.put_departure(effect)
            case StateChanged(state):
                self._changed(state)

    def _changed(self, state: State) -> None:
        if state.name == "closed":
            self.inbox.unread_news.set()
        if self._callbacks.on_state is not None:
            self._states.append(state)
            self._states_news.set()

    def _connect(self, attempt: int, query: dict[str, str], token: str | None) -> None:
        if token is not None and (problem := problem_with_token(token)):
            self.machine.ended(self._now(), attempt, impossible(problem))
            return
        link = Link(self._connector)
        self._links[attempt] = link, self._spawn(self._serve(attempt, link, query, token))

    def _disconnect(self, attempt: int, code: int) -> None:
        if attempt not in self._links or self._group is None:
            return
        link, task = self._links.pop(attempt)
        if link.is_open:
            self._spawn(link.say_goodbye(code))
        else:
            task.cancel()

    def _stem_messages(self) -> None:
        """Stop the flow of messages that the application does not take, or let it go on."""
        if not self._holding and self.inbox.is_full:
            self._holding = True
            self.machine.hold_messages(self._now())
        elif self._holding and self.inbox.has_room:
            self._holding = False
            self.machine.take_messages(self._now())

    # The WebSocket and the token

    async def _serve(self, attempt: int, link: Link, query: dict[str, str], token: str | None) -> None:
        """Open a WebSocket, and tell the machine what comes of it."""
        writing: asyncio.Task[None] | None = None

        def opened() -> None:
            nonlocal writing
            writing = self._spawn(link.write())
            self.do(lambda now: self.machine.opened(now, attempt))

        try:
            end = await link.run(query, token, opened, lambda text: self._received(attempt, text))
        finally:
            if writing is not None:
                writing.cancel()
        if self._links.pop(attempt, None) is not None:
            self.do(lambda now: self.machine.ended(now, attempt, end))

    def _received(self, attempt: int, text: str) -> None:
        self.machine.received(self._now(), attempt, text)
        self.act()

    def _ask_for_token(self, attempt: int) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if callable(self._token):
            self._asking = self._spawn(self._call_for_token(attempt, self._token))
        else:
            self.machine.token_ready(self._now(), attempt, self._token)

    async def _call_for_token(self, attempt: int, function: TokenFunction) -> None:
        token, problem = await token_of(function)
        if problem:
            self.do(lambda now: self.machine.token_failed(now, attempt, problem))
        else:
            self.do(lambda now: self.machine.token_ready(now, attempt, token))

    async def _call_for_channel_token(self, request: int, function: TokenFunction) -> None:
        token, problem = await token_of(function)
        if not problem and token is not None and not is_text(token):
            problem = f"it is no text, but {type(token).__name__}"
        if problem:
            self.do(lambda now: self.machine.channel_token_failed(now, request, problem))
        else:
            self.do(lambda now: self.machine.channel_token_ready(now, request, token))

    # The functions of the application

    async def _handle_messages(self) -> None:
        inbox = self.inbox
        calls = 0
        while not self.is_closing:
            if not inbox.handled:
                inbox.handled_news.clear()
                await inbox.handled_news.wait()
                continue
            event = inbox.handled.popleft()
            if isinstance(event, Departure):
                if inbox.handlers.get(event.left.channel) is event.handlers:
                    inbox.handle(event.left.channel, None)
                    self.handed.pop(event.left.channel, None)
                await self._callbacks.left(event.left)
            elif handler := inbox.handler_of(event):
                self.taken(event)
                await self._callbacks.call(handler, event)
            else:  # the application has taken the function away meanwhile
                inbox.put(event)
            calls += 1
            if calls % TAKEN_IN_A_ROW == 0:
                await asyncio.sleep(0)

    async def _tell_states(self) -> None:
        assert self._callbacks.on_state is not None
        while self._states or not self.is_closing:
            if self._states:
                await self._callbacks.call(self._callbacks.on_state, self._states.popleft())
            else:
                self._states_news.clear()
                await self._states_news.wait()

    # Life

    async def _run(self) -> None:
        """Own all tasks of the client, from its first attempt to its end."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._spawn(self._handle_messages())
                if self._callbacks.on_state is not None:
                    self._spawn(self._tell_states())
                self.do(self.machine.start)
                await self._closing.wait()
                if self._asking is not None:
                    self._asking.cancel()
                late = (await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS + 0.5))[1] if self._tasks else ()
                for task in late:  # a function of the application does not return
                    task.cancel()
        finally:
            self._group = None
            self._end()
            if self._timer is not None:
                self._timer.cancel()

    def _end(self) -> None:
        """Close the machine, and wake everything that waits."""
        self._closing.set()
        self.machine.close(0.0)  # whatever the time is
        if self._loop is not None:
            self.act()
        self.inbox.handled.clear()
        for news in (self.inbox.handled_news, self.inbox.unread_news, self._states_news):
            news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _now(self) -> float:
        if self._loop is None:
            raise RuntimeError("the client does not run yet: use `async with`, or call start()")
        return self._loop.time()

    def _set_timer(self) -> None:
        """Set the timer to the machine's next deadline. One that is early does no harm, so it is seldom set anew."""
        deadline = self.machine.deadline
        if deadline is None or self._group is None or self._loop is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.do(self.machine.tick)
