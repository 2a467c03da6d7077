"""Clients of all kinds together: each publishes numbers into its own channel and reads the channels of all.

with fleet(("node20", "asyncio"), tmp_path, url) as clients:
    with clients.load(per_second=10):
        ...  # a fault
    clients.catch_up()
    assert clients.faults() == []
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.browser import CHROMIUM, chromium
from tests.support.client_programs import KINDS, NODES, Event, Program, client_program, node_versions
from tests.support.waiting import until

SETTLED_SECONDS = 60.0
"""How long a fleet may take until each call has its answer and each message its readers."""


@dataclass(frozen=True)
class Heard:
    """What a reader has heard of a sender, compared with what was sent."""

    messages: int
    lost: int
    duplicated: int
    out_of_order: int

    @property
    def is_perfect(self) -> bool:
        """True if every number came once and in its order."""
        return not (self.lost or self.duplicated or self.out_of_order)


def compare(sent: int, heard: list[int]) -> Heard:
    """Compare the numbers that were heard with 0, 1, 2 .. of which `sent` were sent."""
    different = set(heard)
    backwards = sum(after < before for before, after in itertools.pairwise(heard))
    return Heard(len(heard), len(set(range(sent)) - different), len(heard) - len(different), backwards)


class Member:
    """One client of a fleet, and all that it has reported."""

    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.name = name
        self.sent = 0
        self.resolved = 0
        self.rejected: list[str] = []
        self.heard: dict[str, list[int]] = {}
        self.gaps: list[Event] = []
        self.troubles: list[str] = []
        self.states: list[Event] = []
        self.tokens_asked = 0
        self.stands_still = False
        self._answers: dict[int, Event] = {}
        self._asked: set[int] = set()
        self._lock = threading.RLock()  # the thread of the load publishes and takes events, too

    def publish(self, count: int = 1, padding: int = 0) -> None:
        """Publish the next numbers, each with so many characters besides."""
        with self._lock:
            data = [[number, "x" * padding] for number in range(self.sent, self.sent + count)]
            self.sent += count
            if count == 1:
                self.program.do("publish", channel=self.name, data=data[0])
            else:
                self.program.do("publish_many", channel=self.name, data=data)

    def ask(self, what: str, **fields: Any) -> Any:
        """Give another command, and return its answer. Blocks."""
        with self._lock:
            call = self.program.do(what, **fields)
            self._asked.add(call)

        def answer() -> Event | None:
            self.take()
            return self._answers.pop(call, None)

        settled = until(answer, f"{what} of {self.name}")
        assert "ok" in settled, settled
        return settled["ok"]

    def take(self) -> None:
        """Take the events that have come since the last time. They are not kept, since a long run has many."""
        with self._lock:
            events = self.program.events
            new = events[:]
            del events[: len(new)]
            for event in new:
                self._take(event)

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "message":
                message = event["message"]
                self.heard.setdefault(message["channel"], []).append(message["data"][0])
            case "settled" if event["call"] in self._asked:
                self._asked.discard(event["call"])
                self._answers[event["call"]] = event
            case "settled" if "ok" in event:
                self.resolved += 1
            case "settled":
                self.rejected.append(f"{event['code']}: {event['text']}")
            case "state":
                self.states.append(event)
            case "gap":
                self.gaps.append(event)
            case "token_asked":
                self.tokens_asked += 1
            case "uncaught" | "error" | "left" | "reading_ended":
                self.troubles.append(str(event))

    @property
    def unanswered(self) -> int:
        """Count the publications that have neither been resolved nor rejected."""
        return self.sent - self.resolved - len(self.rejected)

    @property
    def is_open(self) -> bool:
        """True if the client has a connection that was welcomed, as far as it has reported."""
        return bool(self.states) and self.states[-1]["name"] == "open"

    def ended_with(self, code: int) -> int:
        """Count the connections that ended with a code."""
        return sum(state["name"] == "waiting" and state["code"] == code for state in self.states)

    def absences(self) -> list[float]:
        """Return how many seconds each time passed between the end of a connection and the next welcome."""
        found, since = [], None
        for state in self.states:
            if state["name"] == "waiting" and since is None:
                since = state["at"]
            elif state["name"] == "open" and since is not None:
                found.append(state["at"] - since)
                since = None
        return found


class Fleet:
    """Clients that are each other's readers."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    def take(self) -> None:
        for member in self.members:
            member.take()

    def has_caught_up(self, sent: Mapping[str, int]) -> bool:
        """Return whether so many calls of each client have an answer, and so many of its messages all readers."""
        self.take()
        return all(
            member.is_open
            and member.sent - member.unanswered >= sent[member.name]
            and all(len(member.heard.get(name, ())) >= count for name, count in sent.items())
            for member in self.members
        )

    def catch_up(self, patience: float = SETTLED_SECONDS) -> float:
        """Block until what was sent so far is answered and heard, and return the seconds that it took."""
        begun = time.monotonic()
        sent = {member.name: member.sent for member in self.members}
        while not self.has_caught_up(sent):
            if time.monotonic() > begun + patience:
                raise AssertionError(f"not settled after {patience:g} s:\n" + "\n".join(self.describe()))
            time.sleep(0.02)  # as `until` does, whose message would not tell which client is behind
        return time.monotonic() - begun

    def faults(self) -> list[str]:
        """Return all that must not be: what was lost, duplicated or out of order, rejected calls, gaps and errors."""
        self.take()
        found = []
        for reader in self.members:
            for sender in self.members:
                heard = compare(sender.sent, reader.heard.get(sender.name, []))
                if not heard.is_perfect:
                    found.append(f"{reader.name} of {sender.name}: {heard}")
            found += [f"{reader.name}: {each}" for each in (*reader.rejected, *reader.gaps, *reader.troubles)]
            if reader.program.log:
                found.append(f"{reader.name}: {reader.program.log}")
        return found

    def describe(self) -> list[str]:
        """Return a line for each client, for the message of a test that has failed."""
        return [
            f"{member.name}: sent {member.sent}, without an answer {member.unanswered}, heard "
            + ", ".join(f"{sender.name} {len(member.heard.get(sender.name, []))}" for sender in self.members)
            + f"; gaps {member.gaps}, lost {self.lost(member)}; {member.states[-3:]}"
            for member in self.members
        ]

    def lost(self, reader: Member) -> dict[str, list[int]]:
        """Return the numbers that a reader has not heard, by sender."""
        missing = {each.name: set(range(each.sent)) - set(reader.heard.get(each.name, [])) for each in self.members}
        return {name: sorted(numbers) for name, numbers in missing.items() if numbers}

    def publish(self, count: int = 1, padding: int = 0) -> None:
        """Let each client publish numbers, but for those that stand still: nobody calls anything in them."""
        for member in self.members:
            if not member.stands_still:
                member.publish(count, padding)

    def stop(self) -> None:
        """Let all clients stand still."""
        for member in self.members:
            member.stands_still = True
            member.program.stop()

    def go_on(self) -> None:
        for member in self.members:
            member.program.go_on()
            member.stands_still = False

    def until_all(self, condition: Callable[[Member], object], what: str, patience: float = 30.0) -> None:
        """Block until something is true of each client."""

        def reached() -> bool:
            self.take()
            return all(condition(member) for member in self.members)

        until(reached, f"{what} of {[member.name for member in self.members if not condition(member)]}", patience)

    @contextmanager
    def load(self, per_second: float = 10.0) -> Iterator[None]:
        """Let each client publish so many numbers a second until the block ends.

        The client without asyncio makes one call after the other: it publishes no more before it has an answer.
        """
        enough = threading.Event()
        failures: list[Exception] = []

        def publish() -> None:
            try:
                while not enough.wait(1 / per_second):
                    for member in self.members:
                        member.take()
                        if not member.stands_still and (member.name != "sync" or member.unanswered == 0):
                            member.publish()
            except Exception as exc:  # noqa: BLE001 - raised where the block ends
                failures.append(exc)

        publishing = threading.Thread(target=publish, daemon=True)
        publishing.start()
        try:
            yield
        finally:
            enough.set()
            publishing.join()
        if failures:
            raise failures[0]


def installed_kinds() -> tuple[str, ...]:
    """Return the kinds of clients that can run here."""
    nodes = node_versions()
    return tuple(k for k in KINDS if (k in nodes if k in NODES else k != "chromium" or CHROMIUM is not None))


@contextmanager
def fleet(
    kinds: tuple[str, ...],
    directory: Path,
    url: str,
    options: Callable[[str], Mapping[str, Any]] = lambda kind: {"user_id": kind},
) -> Iterator[Fleet]:
    """Run a client of each kind until the block ends. The block begins once each has subscribed to all channels.

    `options`: the arguments of the client's constructor for a kind, which is also the name of its channel.
    """
    with ExitStack() as stack:
        browser = stack.enter_context(chromium(directory)) if "chromium" in kinds else None
        programs = entered(stack, [client_program(kind, own_directory(directory, kind), browser) for kind in kinds])
        members = [Member(program, kind) for program, kind in zip(programs, kinds, strict=True)]
        for member in members:
            member.ask("connect", url=url, options=dict(options(member.name)))
        for member in members:
            for kind in kinds:
                member.ask("subscribe", channel=kind)
        yield Fleet(members)


def own_directory(directory: Path, name: str) -> Path:
    own = directory / name
    own.mkdir()
    return own


def entered(stack: ExitStack, contexts: list[AbstractContextManager[Program]]) -> list[Program]:
    """Enter contexts at the same time, since each waits for a program that starts. The stack leaves them."""
    with ThreadPoolExecutor() as threads:
        entering = [threads.submit(context.__enter__) for context in contexts]
    for context, each in zip(contexts, entering, strict=True):
        if each.exception() is None:
            stack.push(context)
    return [each.result() for each in entering]
