"""Which kinds of clients a test tries: a few by default, and all of them where WSD_ALL_CLIENTS is set."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, chromium
from tests.support.client_programs import KINDS, Program, client_program, node_versions
from tests.support.waiting import all_clients, until

JAVASCRIPT = ("node20", "node22", "node24", "chromium")
PYTHON = ("asyncio", "sync")

IS_LONG = bool(os.environ.get("WSD_ALL_CLIENTS"))


def usual_kinds() -> tuple[str, ...]:
    """Return the kinds that each run tries: the Node on PATH, or any other that is here, and asyncio."""
    return (*list(node_versions())[:1], "asyncio")


def kinds(*more: str) -> list[object]:
    """Return parameters of a test: the first of the usual kinds in each run, the others in long runs.

    `more`: kinds that each run tries as well.
    """
    always = {usual_kinds()[0], *more}
    return [kind if kind in always else pytest.param(kind, marks=all_clients) for kind in KINDS]


@contextmanager
def new_client(ann: Program, url: str, **options: object) -> Iterator[Program]:
    """Create another client in a program, whose earlier events are forgotten. It is closed when the block ends."""
    ann.events.clear()
    ann.connect(url, **{"user_id": "ann", **options})
    yield ann
    ann.ask("close")
    ann.until_state("closed")
    assert ann.troubles == []


@dataclass(frozen=True)
class Story:
    """What one client goes through. Many of them run at the same time."""

    kind: str
    name: str
    tell: Callable[[Program], None]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def run_at_once(stories: list[Story], directory: Path) -> None:
    """Run all stories at the same time, each with a program of its own. Raise what has failed, with the names.

    They take as long as the slowest one, because they do nothing but wait.
    """
    with ExitStack() as stack:
        browser = None
        if any(story.kind == "chromium" for story in stories) and CHROMIUM is not None:
            (directory / "browser").mkdir()
            browser = stack.enter_context(chromium(directory / "browser"))
        programs = []
        for number, story in enumerate(stories):
            own = directory / str(number)
            own.mkdir()
            programs.append(stack.enter_context(client_program(story.kind, own, browser)))

        def tell(story: Story, program: Program) -> Exception | None:
            try:
                story.tell(program)
                assert program.troubles == []
            except Exception as exc:  # noqa: BLE001 - told with those of the other stories
                exc.add_note(f"in the story: {story}")
                exc.add_note("\n".join(map(str, program.events[-12:])))
                return exc
            return None

        with ThreadPoolExecutor(len(stories)) as threads:
            found = list(threads.map(tell, stories, programs))
    if failures := [exc for exc in found if exc is not None]:
        raise ExceptionGroup("; ".join(str(exc.__notes__[0]) for exc in failures), failures)


def until_without_pauses(ann: Program, condition: Callable[[], object], what: str, patience: float = 30.0) -> None:
    """Wait for a condition. A client that waits between two attempts makes the next one at once."""

    def holds() -> bool:
        if ann.states[-1] == "waiting":
            ann.ask("reconnect")
        return bool(condition())

    until(holds, what, patience)


def stays(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition holds all the time, for what must not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.02)
    return True
