"""The tutorial, as its reader goes through it: its files and its commands, two tabs of a browser, and real clusters."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.browser import Tab, open_tab
from tests.support.cluster import Cluster, clean_env
from tests.support.dev_server import DevServer
from tests.support.pages import ROOT, Block, blocks
from tests.support.ports import unused_port
from tests.support.waiting import long_run, until
from wsd.client import RequestError, SyncWsdClient

PAGE = ROOT / "docs" / "tutorial.md"
COUNT_TO = 60


def step(number: int) -> list[Block]:
    """Return the blocks of a step."""
    lines = PAGE.read_text("utf-8").splitlines()
    begin = next(at for at, line in enumerate(lines, 1) if line.startswith(f"## {number}. "))
    end = next(at for at, line in enumerate(lines, 1) if at > begin and line.startswith("## "))
    return [block for block in blocks(PAGE) if begin < block.line < end]


def write_files(number: int, directory: Path) -> None:
    """Write the files that a step shows."""
    for block in step(number):
        if block.title:
            (directory / block.title).write_text(block.text, "utf-8")


def command(number: int, begin: str) -> str:
    """Return the command of a step that begins so."""
    [found] = [block.text.strip() for block in step(number) if block.language == "sh" and block.text.startswith(begin)]
    return found


class Reader:
    """Somebody who goes through the tutorial in a folder, with a browser."""

    def __init__(self, directory: Path, browser: int) -> None:
        self.directory = directory
        self.port = unused_port()
        self._browser = browser
        self._tabs = ExitStack()

    def start(self, number: int) -> Cluster:
        """Start the chat with the command of a step."""
        arguments = shlex.split(command(number, "wsd start"))[2:]
        return Cluster(self.directory, *arguments, port=self.port)

    def open(self, query: str) -> Tab:
        tab = self._tabs.enter_context(open_tab(self._browser, "about:blank"))
        tab.go(f"http://127.0.0.1:{self.port}/?{query}")
        return tab

    def close(self) -> None:
        self._tabs.close()

    def shell(self, text: str) -> "subprocess.Popen[bytes]":
        """Run a command of the tutorial, as in a terminal where the virtual environment is active."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(["bash", "-c", text], cwd=self.directory, env=clean_env(PATH=path))


@pytest.fixture
def reader(tmp_path: Path, browser: int) -> Iterator[Reader]:
    reader = Reader(tmp_path, browser)
    yield reader
    reader.close()


def say(tab: Tab, text: str) -> None:
    tab.run(f"document.querySelector('#text').value = {text!r}; document.querySelector('#form').requestSubmit()")


def lines(tab: Tab) -> list[str]:
    found: list[str] = json.loads(
        tab.run("JSON.stringify([...document.querySelectorAll('#messages li')].map((line) => line.textContent))")
    )
    return found


def worker_of(tab: Tab) -> str:
    """Wait until a tab is connected, and return the worker that it names."""
    return until(
        lambda: tab.text("#state").removeprefix("connected to ") if "connected" in tab.text("#state") else "",
        "a connected tab",
    )


def reload(tab: Tab) -> None:
    """Load a page again, and wait until it is connected."""
    tab.run("globalThis.isOld = true; location.reload()")
    until(lambda: tab.run("globalThis.isOld !== true"), "a page that was loaded again")
    worker_of(tab)


def on_another_worker(tab: Tab, other: Tab) -> None:
    """Reload a tab, as the tutorial says, until it is on another worker than the other tab."""
    for _ in range(20):
        if worker_of(tab) != worker_of(other):
            return
        reload(tab)
    raise AssertionError("both tabs are on one worker")


def hears(tab: Tab, *said: str) -> None:
    until(lambda: lines(tab)[-len(said) :] == [*said], f"{said} in a tab")


def test_the_reader_of_the_tutorial_sees_what_it_promises(reader: Reader) -> None:
    write_files(2, reader.directory)
    with DevServer(reader.directory, *shlex.split(command(2, "wsd dev"))[2:]) as dev:
        dev.shows("Ctrl-C")
        reader.port = dev.port
        ann, bob, elsewhere = reader.open("name=ann"), reader.open("name=bob"), reader.open("name=ann&room=tea")
        on_another_worker(bob, ann)
        say(ann, "hello")
        hears(bob, "ann: hello")
        say(bob, "hi")
        hears(ann, "ann: hello", "bob: hi")
        assert lines(elsewhere) == []
        elsewhere.call("Page.close")

        write_files(3, reader.directory)
        dev.shows("wsd.toml changed: replaced in ")
        reload(ann)
        say(ann, "first")
        hears(ann, "ann: hello", "bob: hi", "ann: first")
        reload(bob)
        hears(bob, "ann: hello", "bob: hi", "ann: first")
        for tab in (ann, bob):
            until(lambda tab=tab: sorted(tab.text("#people").split(", ")) == ["ann", "bob"])  # type: ignore[misc]

        write_files(4, reader.directory)
        dev.shows("changed: replaced in ", 2)
        reload(ann)
        reload(bob)
        say(bob, "it is me")
        hears(ann, "bob: it is me")
        with SyncWsdClient(f"ws://127.0.0.1:{dev.port}/live/ws", "mallory") as mallory:
            with pytest.raises(RequestError, match="a token is missing"):
                mallory.subscribe("room:lobby")

    write_files(5, reader.directory)
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=reader.directory,
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "2 passed" in tests.stdout, tests.stdout


@long_run
def test_the_chat_survives_a_killed_worker_and_a_new_version_as_the_tutorial_shows(reader: Reader) -> None:
    write_files(4, reader.directory)
    with reader.start(6) as cluster:
        ann, bob = reader.open("name=ann"), reader.open("name=bob")
        on_another_worker(bob, ann)
        before = worker_of(ann)
        with reader.shell(command(6, "for i in").replace("300", str(COUNT_TO))) as counting:
            until(lambda: len(lines(ann)) > 5, "a tab that counts")
            [killed] = [worker for worker in cluster.status().workers if worker.worker_id == before]
            subprocess.run(command(6, "kill").replace("18210", str(killed.pid)).split(), check=True)
            until(lambda: worker_of(ann) != before, "another worker")
            cluster.wait_until_healthy()
            write_files(7, reader.directory)
            assert cluster.wsd(*shlex.split(command(7, "wsd"))[1:]).returncode == 0
            assert counting.wait(60) == 0
        numbers = [f"the server: {number}" for number in range(1, COUNT_TO + 1)]
        for tab in (ann, bob):
            until(lambda tab=tab: numbers[-1] in lines(tab), "all numbers")  # type: ignore[misc]
            assert lines(tab) == numbers

        say(ann, "fine :)")
        hears(bob, "ann: fine 🙂")
        assert re.search(r"worker-\d.*killed", cluster.wsd("events").stdout)
        chat = reader.directory / "chat.py"
        chat.write_text(chat.read_text("utf-8") + "\nthis is a mistake\n")
        refused = cluster.wsd("restart")
        assert refused.returncode == 1
        assert re.search(r"SyntaxError: invalid syntax \(chat.py, line \d+\)", refused.stderr)
        say(ann, "still here")
        hears(bob, "ann: still here")


def test_the_shown_versions_of_a_file_differ_in_little() -> None:
    """Each version of a file goes on from the one before: a reader who compares them finds what is new."""
    versions: dict[str, list[list[str]]] = {}
    for block in blocks(PAGE):
        if block.title:
            versions.setdefault(block.title, []).append(block.text.splitlines())
    for name, found in versions.items():
        for before, after in itertools.pairwise(found):
            assert len(set(before) - set(after)) <= 7, name
