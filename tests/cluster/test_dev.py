"""`wsd dev`: an application in memory, replaced when its files change, without a loss for its clients."""

import http.client
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.support.apps import APPS
from tests.support.cluster import clean_env, wsd
from tests.support.dev_server import DevServer
from tests.support.waiting import until

CHAT = """
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from wsd.worker.endpoints.hub import app as hub

VERSION = "one"


async def version(request):
    return PlainTextResponse(VERSION)


async def broken(request):
    return PlainTextResponse({}["key"])


app = Starlette(routes=[Route("/version", version), Route("/broken", broken), Mount("/", hub)])
"""

LARGE = "x" * 50_000
"""Some of these are more than the buffers between processes take."""


def write(path: Path, text: str) -> None:
    """Write a file as editors do: another one that is renamed."""
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text(text)
    draft.rename(path)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[DevServer]:
    write(tmp_path / "chat.py", CHAT)
    with DevServer(tmp_path, "chat:app", "--workers", "2") as running:
        running.shows("stop     Ctrl-C")
        yield running


def test_clients_on_two_workers_lose_nothing_when_the_code_changes(dev: DevServer) -> None:
    page = http.client.HTTPConnection("127.0.0.1", dev.port)  # a browser that keeps a connection open
    page.request("GET", "/version")
    assert page.getresponse().read() == b"one"
    with closing(page), dev.client("ann") as ann, dev.client("bob") as bob:
        ann.subscribe("room")
        bob.subscribe("room")
        assert ann.welcome["worker_id"] != bob.welcome["worker_id"]
        session, done = ann.welcome["session_id"], threading.Event()
        for _ in range(20):  # from its first `receive` on, a client keeps every message until it is received
            bob.publish("room", LARGE)
            assert [ann.receive(timeout=10)["data"], bob.receive(timeout=10)["data"]] == [LARGE, LARGE]
        published: list[int] = []

        def publish() -> None:
            for number in itertools.count():
                if done.is_set():
                    return
                bob.publish("room", number)
                published.append(number)

        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            for number, text in enumerate(("two", "three"), 1):
                write(dev.directory / "chat.py", CHAT.replace("one", text))
                dev.shows("chat.py changed: replaced in", number)
                assert dev.get("/version") == text
        finally:
            done.set()
            publisher.join()
        assert len(published) > 3
        for client in (ann, bob):
            assert [client.receive(timeout=10).get("data") for _ in published] == published
        assert (ann.welcome["session_id"], ann.welcome["resumed"]) == (session, True)
        assert [message["data"] for message in ann.history("room", limit=3, reverse=True).messages] == published[:-4:-1]


def test_an_error_in_the_code_changes_nothing_and_is_shown_once(dev: DevServer) -> None:
    process = psutil.Process(dev.process.pid)
    with dev.client("ann") as ann:
        ann.subscribe("room")
        write(dev.directory / "chat.py", CHAT + "\ndef x(:\n")
        dev.shows("goes on serving")
        assert dev.get("/version") == "one"
        write(dev.directory / "chat.py", CHAT + "\ndef x(:\n# the same error\n")
        dev.shows("✗ still: ")
        assert dev.output.count("def x(:") == 1
        assert "importlib" not in dev.output
        assert ann.publish("room", "hello").offset == 1
        assert ann.welcome["resumed"] is False
        assert [dev.get("/broken") for _ in range(12)] == ["500"] * 12
        dev.shows("✗ again, 10 times so far: KeyError: 'key' (chat.py:")
        assert dev.output.count("✗ Exception in ASGI application: KeyError: 'key'") == 1
        assert dev.output.count("again, ") == 2
        assert "starlette/" not in dev.output
        write(dev.directory / "chat.py", CHAT.replace("one", "two"))
        dev.shows("replaced in")
        assert ann.receive(timeout=10)["data"] == "hello"
        assert dev.get("/version") == "two"
    began = time.monotonic()
    children = process.children()
    assert dev.interrupt() == 0
    assert time.monotonic() - began < 5
    assert not any(child.is_running() for child in children)
    assert not dev.is_open()
    assert dev.output.count("✗") == 5, dev.output


def test_files_that_belong_together_are_one_change_and_others_are_none(dev: DevServer) -> None:
    for number in range(30):
        write(dev.directory / f"page{number}.py", "")
    (dev.directory / "notes.txt").write_text("")
    dev.shows("and 29 other files changed: replaced in")
    for ignored in ("chat.db", ".venv/lib.py", "__pycache__/chat.py", "node_modules/x.py", ".git/hook.py"):
        (dev.directory / ignored).parent.mkdir(exist_ok=True)
        (dev.directory / ignored).write_text("")
    (dev.directory / "wsd.toml").write_text("[websocket]\nsession_tll = 1\n")
    dev.shows("session_tll")
    assert dev.get("/version") == "one"
    (dev.directory / "wsd.toml").write_text('[security]\napi_key = "own"\n')
    dev.shows("wsd.toml changed: replaced in")
    assert dev.output.count("replaced in") == 2
    url = f"http://127.0.0.1:{dev.port}"
    publish = ("publish", "room", '"hello"', "--url", url, "--api-key")
    assert wsd(*publish, "own", cwd=dev.directory).returncode == 0
    assert "refuses this API key" in wsd(*publish, "dev", cwd=dev.directory).stderr


def test_code_that_cannot_be_imported_at_first_starts_once_it_can(tmp_path: Path) -> None:
    write(tmp_path / "chat.py", "import nothing_of_this_name\n")
    with DevServer(tmp_path, "chat:app") as dev:
        dev.shows("Nothing is served: the next change starts it again.")
        assert dev.is_open()
        write(tmp_path / "chat.py", CHAT)
        assert dev.get("/version") == "one"  # the request has waited
        dev.shows("Ctrl-C")
        assert (
            wsd(
                "publish", "room", '"hello"', "--url", f"http://127.0.0.1:{dev.port}", "--api-key", "dev", cwd=tmp_path
            ).returncode
            == 0
        )
        dev.process.kill()
        until(lambda: not dev.is_open(), "the end of the processes of a `wsd dev` that was killed")


def test_it_needs_nothing_that_macos_lacks(tmp_path: Path) -> None:
    env = clean_env(PYTHONPATH=str(APPS / "as_on_macos"))
    write(tmp_path / "chat.py", CHAT)
    with DevServer(tmp_path, "chat:app", env=env) as dev, dev.client("ann") as ann:
        ann.subscribe("room")
        write(tmp_path / "chat.py", CHAT.replace("one", "two"))
        dev.shows("chat.py changed: replaced in")
        assert ann.publish("room", "hello").offset == 1
        assert ann.welcome["resumed"] is True
        assert dev.interrupt() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--workers", "3"], 2, '--workers must be 1 or 2 here, got "3"'),
        (["--reload-dir", "nowhere"], 2, '--reload-dir "nowhere" is not a directory'),
        (["--port"], 1, "is taken by"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = wsd("dev", *arguments, *([port] if arguments == ["--port"] else []), cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert words in result.stderr
