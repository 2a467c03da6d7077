"""The Sentinels that a URL lists: who the primary is, and the news that it is another one."""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl
from weakref import WeakSet

from wsd.worker.contract.redis_address import Place, SentinelAddress, shown
from wsd.worker.contract.sentinels.connection import (
    ErrorAnswer,
    SentinelConnection,
    SentinelError,
    SentinelLogin,
    connected,
    tls_context,
)
from wsd.worker.contract.sentinels.words import Heard, Word, primary_place

GRACE_SECONDS = 0.1
"""How long the other Sentinels may take once one has answered. One that is dead delays nobody for longer."""

POLL_SECONDS = 3.0
"""How often each Sentinel is asked beside its news. Some changes come without news, and a connection may die silently.

News come at once; this is the longest that a change without them stays unnoticed.
"""

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 2.0
"""The ceilings of the random pauses before a new connection to a Sentinel: the first, and the highest."""

STANDSTILL_SECONDS = 1.0
"""A process that stood still for so long may have missed a switch: a failover that is asked for takes as long."""

TICK_SECONDS = 0.1
"""How often a process looks at the clock, to see that it stood still. It does so before it acts on any answer."""

NEWS = ("+switch-master", "+promoted-slave")
"""What a Sentinel publishes when the primary changes. Only what it answers afterwards is believed.

A Sentinel that was down may publish an old switch once more.
"""

PROMOTION = "+failover-state-send-slaveof-noone"
"""What a Sentinel publishes when it is about to promote a replica. It names the new primary up to a second later.

What the old primary takes in between is lost. It does not know that it is being replaced if the failover was asked for.
"""

PROMOTION_SECONDS = 3.0
"""How long the old primary is left alone after that. A promotion that failed ends with it."""

OnSwitch = Callable[[Place, Place], None]
"""Called with the address of the old primary, and that of the new one."""


class Droppable(Protocol):
    """A connection to a primary."""

    @property
    def place(self) -> Place:
        """The server that the connection leads to."""

    def drop(self) -> None:
        """Close the connection at once, without sending what waits."""


class Sentinels:
    """The Sentinels of one URL, and the primary that they name.

    `current` is the primary in use, None until one was named. While no Sentinel answers, it stays as it is. When
    another one is named, all connections to the old one are dropped in the same moment: it may have been frozen, and
    would go on acknowledging what is lost when it learns of its successor.
    """

    def __init__(
        self, address: SentinelAddress, *, username: str = "", password: str = "", timeout: float = 1.0
    ) -> None:
        """`username` and `password` are those of the Sentinels; "" for none. `timeout`: seconds that one may take.

        Raises OSError for files of TLS that cannot be read.
        """
        self.name = address.name
        self.places = address.sentinels
        self.current: Place | None = None
        self.on_switch: OnSwitch | None = None
        self.on_doubt: Callable[[str], None] | None = None
        """Called with the reason when the primary may be another one by now. All connections were dropped then."""
        self._replaced: Place | None = None  # a primary that is being replaced
        self._replaced_until = 0.0
        self.failures: dict[Place, SentinelError] = {}
        """The Sentinels that did not answer when they were asked last, and why."""
        options = dict(parse_qsl(address.query.removeprefix("?")))
        self.login = SentinelLogin(username, password, tls_context(options) if address.tls else None, timeout)
        self._heard: dict[Place, Heard] = {}
        self._connections: WeakSet[Any] = WeakSet()
        self._asking: asyncio.Task[None] | None = None

    async def primary(self) -> Place:
        """Ask all Sentinels, and return the address of the primary.

        Raises SentinelError if none names one, and none did before; and while the primary is being replaced.
        """
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not asyncio.get_running_loop():
            self._asking = asyncio.create_task(self._ask_all(), name="sentinels")
        await asyncio.shield(self._asking)
        if self.current is None:
            raise self._failure()
        if self.current == self._replaced and time.monotonic() < self._replaced_until:
            raise SentinelError(f"a failover is under way: {shown(self.current)} is being replaced")
        return self.current

    def watch(self, connection: Droppable) -> None:
        """Drop a connection once another primary is named."""
        self._connections.add(connection)

    async def follow(self) -> None:
        """Hear the news of all Sentinels until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notice_standstills(), name="standstills")
            for place in self.places:
                tasks.create_task(self._follow(place), name=f"sentinel-{shown(place)}")

    async def _notice_standstills(self) -> None:
        """Drop all connections after a standstill of this process: its primary may have been replaced meanwhile.

        The process was frozen, its machine was suspended, or its event loop was blocked. An old primary that does not
        know yet that it was replaced goes on acknowledging what is lost. New connections ask the Sentinels first.
        """
        seen_at = _now()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            before, seen_at = seen_at, _now()
            stood_still = seen_at - before - TICK_SECONDS
            if stood_still > STANDSTILL_SECONDS:
                self._doubt(f"this process stood still for {stood_still:.1f} s, and may have missed a failover")

    def _doubt(self, reason: str) -> None:
        """Use no connection that there is."""
        for connection in list(self._connections):
            connection.drop()
        if self.on_doubt is not None:
            self.on_doubt(reason)

    async def _ask_all(self) -> None:
        """Ask all Sentinels at once. Return when all have answered, or some time after the first that names a primary.

        So a stale Sentinel that answers first does not lead astray.
        """
        pending = {asyncio.create_task(self._ask(place)) for place in self.places}
        is_named = False
        try:
            while pending:
                grace = GRACE_SECONDS if is_named else None
                done, pending = await asyncio.wait(pending, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                is_named |= any(task.result() for task in done)
        finally:
            for task in pending:
                task.cancel()

    async def _ask(self, place: Place) -> bool:
        """Ask one Sentinel, and note its answer. Return whether it names a primary. Does not raise."""
        try:
            async with asyncio.timeout(self.login.timeout), connected(place, self.login) as connection:
                word = await connection.word(self.name)
                if word is None:
                    raise await self._unknown_name(connection)
        except (OSError, ValueError, TypeError, ErrorAnswer, SentinelError) as exc:
            self.failures[place] = _problem(place, exc)
            return False
        self.failures.pop(place, None)
        self._note(place, word)
        return True

    async def _unknown_name(self, connection: SentinelConnection) -> SentinelError:
        masters = await connection.ask("SENTINEL", "MASTERS")
        known = tuple(sorted(dict(zip(fields[::2], fields[1::2], strict=True))["name"] for fields in masters))
        these = f"these are known: {', '.join(known)}" if known else "they know none"
        return SentinelError(f'the Sentinels know no primary "{self.name}"; {these}', known=known)

    def _failure(self) -> SentinelError:
        """Return why no primary is named: what only people can mend first."""
        found = [self.failures[place] for place in self.places if place in self.failures]
        for failure in found:
            if failure.known is not None or failure.refused:
                return failure
        return SentinelError("no Sentinel answers: " + "; ".join(map(str, found)))

    def _note(self, place: Place, word: Word) -> None:
        """Note the word of a Sentinel. If another primary follows from it, leave the old one at once."""
        now = time.monotonic()
        self._heard[place] = Heard(word, now)
        before, self.current = self.current, primary_place(self.current, self._heard, len(self.places), now)
        if self.current is None or self.current == before:
            return
        for connection in list(self._connections):
            if connection.place != self.current:
                connection.drop()
        if before is not None and self.on_switch is not None:
            self.on_switch(before, self.current)

    def _note_promotion(self, text: str) -> None:
        """Leave the primary alone that is about to be replaced. The text ends with `@`, its name, and its address."""
        name, host, port = text.rpartition("@ ")[2].split()
        if name == self.name and self.current == (host, int(port)):
            self._replaced, self._replaced_until = self.current, time.monotonic() + PROMOTION_SECONDS
            self._doubt(f"a failover is under way: {shown(self.current)} is being replaced")

    async def _follow(self, place: Place) -> None:
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                async with connected(place, self.login) as connection:
                    await self._hear_news(place, connection)
            except (OSError, ValueError, ErrorAnswer) as exc:
                self.failures[place] = _problem(place, exc)
            attempt = 0 if time.monotonic() - began > POLL_SECONDS else min(attempt + 1, 8)
            await asyncio.sleep(random.uniform(0, min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2**attempt)))

    async def _hear_news(self, place: Place, connection: SentinelConnection) -> None:
        """Ask a Sentinel after each of its news, and now and then, until the connection is lost.

        It is asked once it has confirmed the subscription, so that no switch is missed in between. A PING shows whether
        the connection lives: where nothing came since the last one, it does not.

        Raises OSError, ValueError and ErrorAnswer.
        """
        async with asyncio.timeout(self.login.timeout):
            await connection.ask("SUBSCRIBE", *NEWS, PROMOTION)
        reading = asyncio.create_task(connection.read())
        try:
            is_alive = True
            while True:
                await self._ask(place)
                await asyncio.wait([reading], timeout=POLL_SECONDS)
                if reading.done():
                    if isinstance(answer := reading.result(), ErrorAnswer):
                        raise answer
                    if isinstance(answer, list) and answer[:2] == ["message", PROMOTION]:
                        self._note_promotion(str(answer[-1]))
                    is_alive = True
                    reading = asyncio.create_task(connection.read())
                elif is_alive:
                    is_alive = False
                    connection.send("PING")
                else:
                    raise ConnectionResetError("the connection is dead")
        finally:
            reading.cancel()


def _now() -> float:
    """Return the seconds since the boot. Unlike those of time.monotonic, they count while the machine is suspended."""
    if sys.platform == "win32":
        seconds = time.monotonic()  # counts them there
    else:
        seconds = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return seconds


def _problem(place: Place, exc: Exception) -> SentinelError:
    if isinstance(exc, SentinelError):
        return exc
    if isinstance(exc, ConnectionRefusedError):
        text = "connection refused"  # asyncio and uvloop have other words for it, which repeat the address
    else:
        text = str(exc) or ("no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__)
    codes = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password", "ERR Client sent AUTH")
    refused = isinstance(exc, ErrorAnswer) and text.startswith(codes)
    return SentinelError(f"Sentinel {shown(place)}: {text}", refused=refused)
