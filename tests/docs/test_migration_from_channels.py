"""The chat of docs/migration/channels.md, before, during and after its move from Channels to wsd."""

import http.client
import json
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.support.browser import Tab, open_tab
from tests.support.cluster import Cluster, clean_env
from tests.support.migrations import versions, write
from tests.support.ports import unused_port
from tests.support.server import uvicorn
from tests.support.valkey import valkey
from tests.support.waiting import long_run, until

FILES = versions("channels.md")
BEFORE = {name: texts[0] for name, texts in FILES.items()}
AFTER = {name: texts[-1] for name, texts in FILES.items()}
NEW = {"chat/live.py", "chat/authentication.py", "wsd.toml"}
"""The files that only the application after the move has."""

BEFORE = {name: text for name, text in BEFORE.items() if name not in NEW}
ONLY_BEFORE = "chat/consumers.py"
BOTH_WAYS = {"chat/announce.py": FILES["chat/announce.py"][1]}
"""The function of the second and third step: it announces in both ways."""

ENDPOINT = {name: FILES[name][-1] for name in ("chat/live.py", "chat/authentication.py", "wsd.toml", "mysite/asgi.py")}
"""The files of the third step."""

PREPARE = """
from django.contrib.auth.models import User
from django.test import Client
for name in ("ann", "bob"):
    client = Client()
    client.force_login(User.objects.create_user(name, password="sesame"))
    print(name, client.cookies["sessionid"].value)
"""
"""Makes two users who are logged in, and prints their cookies."""

TOKEN = "0123456789abcdefghijABCDEFGHIJ00"
"""A token against forged requests, as the page of a form would have it."""

APP = "mysite.asgi:application"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("valkey"), unused_port()) as url:
        yield url


@dataclass(frozen=True)
class Database:
    """The database of the page, with two users who are logged in."""

    content: bytes
    sessions: dict[str, str]
    """The keys of their sessions by name."""

    def cookies(self, name: str) -> str:
        return f"sessionid={self.sessions[name]}; csrftoken={TOKEN}"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    directory = write(tmp_path_factory.mktemp("site"), BEFORE)
    manage(directory, "migrate", "--run-syncdb")
    lines = manage(directory, "shell", "--verbosity", "0", "-c", PREPARE).split()
    return Database((directory / "chat.sqlite3").read_bytes(), dict(zip(lines[::2], lines[1::2], strict=True)))


def manage(site: Path, *arguments: str) -> str:
    """Run a command of Django to its end, and return its output."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=site, env=clean_env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def site(directory: Path, database: Database, *layers: dict[str, str]) -> Path:
    """Write an application from layers of files, and its database."""
    for files in layers:
        write(directory, files)
    (directory / "chat.sqlite3").write_bytes(database.content)
    return directory


def ask(port: int, method: str, path: str, cookies: str, **form: str) -> int:
    """Send a request as a browser would, and return its status."""
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": TOKEN}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, urllib.parse.urlencode(form), headers)
        return connection.getresponse().status
    finally:
        connection.close()


class Listener:
    """A client in a room. It takes each message once, as the page does."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._seen = set[int]()

    async def hear(self) -> tuple[str, str]:
        while True:
            message: dict[str, Any] = json.loads(await self.connection.recv())
            if message["id"] not in self._seen:
                self._seen.add(message["id"])
                return message["name"], message["text"]


@asynccontextmanager
async def entered(port: int, room: str, cookies: str) -> AsyncIterator[Listener]:
    url = f"ws://127.0.0.1:{port}/ws/chat/{room}/"
    async with connect(url, additional_headers={"Cookie": cookies}) as connection:
        yield Listener(connection)


async def conversation(room: str, database: Database, first: int, second: int) -> list[tuple[str, str]]:
    """Let two users talk in a room, each connected to one of two ports, and return what they hear."""
    ann, bob = database.cookies("ann"), database.cookies("bob")
    assert (ask(first, "GET", f"/chat/{room}/", ann), ask(first, "GET", f"/chat/{room}/", "")) == (200, 302)
    with pytest.raises((InvalidStatus, ConnectionClosedError)):
        async with entered(first, room, "") as stranger:
            await stranger.hear()
    async with entered(first, room, ann) as one, entered(second, room, bob) as other:
        await one.connection.send('{"text": "hello"}')
        heard = [await client.hear() for client in (one, other)]
        await other.connection.send('{"text": "hi"}')
        heard += [await client.hear() for client in (one, other)]
        assert ask(second, "POST", f"/chat/{room}/announcement/", bob, text="lunch") == 204
        heard += [await client.hear() for client in (one, other)]
    async with entered(second, room, ann) as late:
        return heard + [await late.hear() for _ in range(3)]


HEARD = [(name, text) for name, text in (("ann", "hello"), ("bob", "hi"), ("bob", "lunch")) for _ in range(2)]
HEARD += HEARD[::2]
"""What the clients of a conversation hear: the two users each message, and one who comes late all of them."""


@contextmanager
def serving(directory: Path, redis_url: str, *options: str, node: str = "a") -> Iterator[Cluster]:
    with Cluster(directory, APP, *options, env=clean_env(REDIS_URL=redis_url, NODE_ID=node)) as cluster:
        yield cluster


def use_the_page(tab: Tab, port: int, room: str) -> None:
    """Log in, read what was said in a room, and say something."""
    tab.go(f"http://127.0.0.1:{port}/login/?next=/chat/{room}/")
    tab.run("document.forms[0].username.value = 'ann'; document.forms[0].password.value = 'sesame'")
    tab.run("document.forms[0].requestSubmit()")
    until(lambda: tab.text("#messages").splitlines() == ["ann: hello", "bob: hi", "bob: lunch"], "what was said")
    tab.run("text.value = 'done'; form.requestSubmit()")
    until(lambda: tab.text("#messages").endswith("ann: done"), "the page's own message")
    tab.call("Page.navigate", url="about:blank")  # otherwise the page goes on connecting


async def test_the_clients_hear_the_same_before_and_after(
    tmp_path: Path, database: Database, redis_url: str, browser: int
) -> None:
    with uvicorn(site(tmp_path / "before", database, BEFORE), APP, path="/login/", REDIS_URL=redis_url) as port:
        assert await conversation("chat", database, port, port) == HEARD
        with open_tab(browser, "about:blank") as tab:
            use_the_page(tab, port, "chat")
    after = site(tmp_path / "after", database, {name: text for name, text in AFTER.items() if name != ONLY_BEFORE})
    with serving(after, redis_url, "--workers", "2") as cluster:
        assert await conversation("chat", database, cluster.port, cluster.port) == HEARD
        with open_tab(browser, "about:blank") as tab:
            use_the_page(tab, cluster.port, "chat")


async def test_consumers_and_endpoints_are_one_room_during_the_deploy(
    tmp_path: Path, database: Database, redis_url: str
) -> None:
    old = site(tmp_path / "old", database, BEFORE, BOTH_WAYS)
    new = site(tmp_path / "new", database, BEFORE, BOTH_WAYS, ENDPOINT)
    for directory in (old, new):  # both have the same database, as two releases do
        write(directory, {"mysite/settings.py": with_database(BEFORE["mysite/settings.py"], tmp_path / "new")})
    one_process = ("--workers", "1", "--no-nginx")
    with (
        serving(old, redis_url, *one_process, node="old") as consumers,
        serving(new, redis_url, *one_process, node="new") as endpoints,
    ):
        assert await conversation("one", database, consumers.port, endpoints.port) == HEARD
        assert await conversation("two", database, endpoints.port, consumers.port) == HEARD


def with_database(settings: str, directory: Path) -> str:
    assert '"chat.sqlite3"' in settings
    return settings.replace('"chat.sqlite3"', repr(str(directory / "chat.sqlite3")))


@long_run
async def test_each_step_is_a_deploy_of_one_cluster(tmp_path: Path, database: Database, redis_url: str) -> None:
    with serving(site(tmp_path, database, BEFORE), redis_url, "--workers", "2") as cluster:
        assert await conversation("step-1", database, cluster.port, cluster.port) == HEARD
        write(tmp_path, BOTH_WAYS)
        await cluster.run("restart")
        assert await conversation("step-2", database, cluster.port, cluster.port) == HEARD
        write(tmp_path, ENDPOINT)
        await cluster.run("reload")
        assert await conversation("step-3", database, cluster.port, cluster.port) == HEARD
        write(tmp_path, {name: AFTER[name] for name in ("chat/announce.py", "mysite/settings.py")})
        (tmp_path / ONLY_BEFORE).unlink()
        await cluster.run("restart")
        assert await conversation("step-4", database, cluster.port, cluster.port) == HEARD


@pytest.mark.parametrize("files", [BEFORE, AFTER], ids=["before", "after"])
def test_the_tests_of_the_page_pass(tmp_path: Path, files: dict[str, str]) -> None:
    manage(write(tmp_path, files), "test", "chat.tests")
