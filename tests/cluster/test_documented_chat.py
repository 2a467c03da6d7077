"""The chats of docs/clients.md, as they stand there, talk to each other: in a browser, in Node and in Python."""

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import ROOT, Cluster
from tests.support.node_programs import NODE, node_options
from tests.support.pages import blocks, files
from tests.support.waiting import until
from tests.support.web_server import web_server

PAGE = ROOT / "docs" / "clients.md"
FILES = files(PAGE)


class Program:
    """A chat in a terminal: what is typed, and what it prints."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self._exit_code: int = 0
        self._output = directory / f"{name}.txt"
        # A program that was started in the background of a shell ignores SIGINT, and so do all that it starts.
        command = ["env", "--default-signal=INT", *command, name]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.PIPE, stdout=output, stderr=output
            )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(20) == self._exit_code, self.text()
        finally:
            self._process.kill()

    def say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        self._process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(10) == -signal.SIGINT, self.text()
        self._exit_code = -signal.SIGINT

    def text(self) -> str:
        return self._output.read_text("utf-8")


class Page:
    """The chat in a browser."""

    name = "ann"

    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    def say(self, text: str) -> None:
        self._tab.run(f"text.value = {text!r}; form.requestSubmit()")

    def text(self) -> str:
        return self._tab.text("#messages")


def test_the_chats_of_the_page_talk_to_each_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folder = tmp_path / "files"
        folder.mkdir()
        site = stack.enter_context(web_server(folder))
        [settings, *_] = [block.text for block in blocks(PAGE) if block.language == "toml"]
        config = settings.replace("8080", str(site))
        cluster = stack.enter_context(Cluster(tmp_path, "--workers", "2", config=config))

        for name, text in FILES.items():
            if name.startswith("chat"):
                (folder / name).write_text(text.replace("127.0.0.1:8000", f"127.0.0.1:{cluster.port}"))

        def start(name: str, *command: str) -> Program:
            return stack.enter_context(Program(name, [*command], folder))

        people: list[Program | Page] = [
            start("carol", sys.executable, "chat.py"),
            start("dave", sys.executable, "chat_in_threads.py"),
        ]
        if NODE is not None:
            (folder / "node_modules").mkdir()
            (folder / "node_modules" / "wsd-client").symlink_to(ROOT / "clients" / "js")
            people.append(start("bob", NODE, *node_options(), "chat.mjs"))
        if CHROMIUM is not None:
            port = stack.enter_context(chromium(tmp_path))
            address = f"http://localhost:{site}/chat.html"
            people.append(Page(stack.enter_context(open_tab(port, address))))
        for person in people:
            person.say(f"hello from {person.name}")
            for other in people:
                until(lambda: f"{person.name}: hello from {person.name}" in other.text())  # noqa: B023 - called at once
        late = start("eve", sys.executable, "chat.py")
        until(lambda: all(f"hello from {person.name}" in late.text() for person in people), "the last messages")


@pytest.mark.parametrize("name", ["chat.py", "chat_in_threads.py"])
def test_ctrl_c_ends_a_chat_that_waits_for_a_line(tmp_path: Path, name: str) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        chat = FILES[name].replace("127.0.0.1:8000", f"127.0.0.1:{cluster.port}")
        (tmp_path / name).write_text(chat)
        with Program("ann", [sys.executable, name], tmp_path) as program:
            program.say("hello")
            until(lambda: "ann: hello" in program.text(), "the own message")
            program.interrupt()
