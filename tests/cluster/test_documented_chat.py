"""The chats of docs/clients.md, as they stand there, talk to each other: in a browser, in Node and in Python."""

import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import ROOT, Cluster
from tests.support.node_programs import NODE, node_options
from tests.support.waiting import until
from tests.support.web_server import web_server

PAGE = (ROOT / "docs" / "clients.md").read_text("utf-8")


def example(language: str, number: int = 0) -> str:
    """Return the example of a language that docs/clients.md shows."""
    return examples(language)[number]


def examples(language: str) -> list[str]:
    """Return all examples of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


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
        files = tmp_path / "files"
        files.mkdir()
        site = stack.enter_context(web_server(files))
        config = example("toml").replace("8080", str(site))
        cluster = stack.enter_context(Cluster(tmp_path, "--workers", "2", config=config))

        def save(name: str, text: str) -> str:
            (files / name).write_text(text.replace("127.0.0.1:8000", f"127.0.0.1:{cluster.port}"))
            return name

        def start(name: str, *command: str) -> Program:
            return stack.enter_context(Program(name, [*command], files))

        people: list[Program | Page] = [
            start("carol", sys.executable, save("chat.py", example("python"))),
            start("dave", sys.executable, save("chat_without_asyncio.py", example("python", 1))),
        ]
        if NODE is not None:
            (files / "node_modules").mkdir()
            (files / "node_modules" / "wsd-client").symlink_to(ROOT / "clients" / "js")
            people.append(start("bob", NODE, *node_options(), save("chat.mjs", example("js"))))
        if CHROMIUM is not None:
            port = stack.enter_context(chromium(tmp_path))
            address = f"http://localhost:{site}/{save('chat.html', example('html'))}"
            people.append(Page(stack.enter_context(open_tab(port, address))))
        for person in people:
            person.say(f"hello from {person.name}")
            for other in people:
                until(lambda: f"{person.name}: hello from {person.name}" in other.text())  # noqa: B023 - called at once
        late = start("eve", sys.executable, "chat.py")
        until(lambda: all(f"hello from {person.name}" in late.text() for person in people), "the last messages")


@pytest.mark.parametrize("number", [0, 1], ids=["asyncio", "sync"])
def test_ctrl_c_ends_a_chat_that_waits_for_a_line(tmp_path: Path, number: int) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        chat = example("python", number).replace("127.0.0.1:8000", f"127.0.0.1:{cluster.port}")
        (tmp_path / "chat.py").write_text(chat)
        with Program("ann", [sys.executable, "chat.py"], tmp_path) as program:
            program.say("hello")
            until(lambda: "ann: hello" in program.text(), "the own message")
            program.interrupt()
