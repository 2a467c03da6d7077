"""The chat of docs/migration/socketio.md, before, during and after its move from Socket.IO to wsd, in a browser."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.browser import Tab, open_tab
from tests.support.cluster import Cluster, clean_env
from tests.support.migrations import versions, write
from tests.support.npm import NODE_MODULES, npm_package
from tests.support.ports import unused_port
from tests.support.server import uvicorn
from tests.support.valkey import valkey
from tests.support.waiting import long_run, until

FILES = versions("socketio.md")
BEFORE = {name: texts[0] for name, texts in FILES.items() if name != "wsd.toml"}
BOTH = {name: FILES[name][-2] for name in ("chat.py", "news.py", "wsd.toml")}
"""The files of the second step: the server speaks both protocols."""

AFTER = {name: texts[-1] for name, texts in FILES.items()}
PAGE = {"page.html": FILES["page.html"][-1]}
SECRET = "0123456789abcdef0123456789abcdef"
KEY = "abcdef0123456789abcdef0123456789"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("valkey"), unused_port()) as url:
        yield url


@pytest.fixture
def environment(redis_url: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "JWT_SECRET": SECRET, "WSD_SECURITY_API_KEY": KEY, "WSD_API_KEY": KEY}


def folder(directory: Path, files: dict[str, str]) -> Path:
    """Write files into a folder that has the client of Socket.IO."""
    npm_package("socket.io-client")
    write(directory, files)
    (directory / "node_modules").symlink_to(NODE_MODULES)
    return directory


class Chat:
    """The pages of a chat, and the program that publishes headlines."""

    def __init__(self, directory: Path, port: int, environment: dict[str, str], browser: int, stack: ExitStack) -> None:
        self.directory = directory
        self._url = f"http://127.0.0.1:{port}"
        self._environment = clean_env(**environment, WSD_URL=self._url)
        self._browser = browser
        self._stack = stack

    def open(self, name: str) -> Tab:
        tab = self._stack.enter_context(open_tab(self._browser, f"{self._url}/?name={name}"))
        self._stack.callback(tab.call, "Page.navigate", url="about:blank")  # otherwise the page goes on connecting
        until(lambda: tab.text("#state").startswith("open"), f"a connection of {name}")
        return tab

    def publish_headline(self, text: str) -> None:
        command = [sys.executable, "news.py", text]
        subprocess.run(command, cwd=self.directory, env=self._environment, check=True, timeout=30)


@contextmanager
def opened(directory: Path, port: int, environment: dict[str, str], browser: int) -> Iterator[Chat]:
    with ExitStack() as stack:
        yield Chat(directory, port, environment, browser, stack)


def say(tab: Tab, text: str) -> None:
    tab.run(f"text.value = {text!r}; form.requestSubmit()")


def see(tabs: list[Tab], selector: str, line: str) -> None:
    """Wait until the newest line of all tabs is this one, and check that it came once."""
    for tab in tabs:
        until(lambda: tab.text(selector).splitlines()[-1:] == [line], f"{line} at the end of {tab.text(selector)!r}")  # noqa: B023
        assert tab.text(selector).splitlines().count(line) == 1


def converse(chat: Chat, ann: Tab, bob: Tab, *, topic: str) -> None:
    """Let two people talk. All that the pages of the guide can do is in it."""
    for tab in (ann, bob):
        until(lambda: tab.text("#state").startswith("open"), "a connection")  # noqa: B023
    say(ann, f" hello, {topic} ")
    see([ann, bob], "#messages", f"ann: hello, {topic}")
    say(bob, f"hi, {topic}")
    see([ann, bob], "#messages", f"bob: hi, {topic}")
    say(bob, "  ")
    until(lambda: bob.text("#state") == "nothing to say", "the refusal of an empty message")
    chat.publish_headline(f"News of {topic}")
    see([ann, bob], "#news", f"News of {topic}")


def test_the_chat_before_the_move(tmp_path: Path, environment: dict[str, str], browser: int) -> None:
    directory = folder(tmp_path, BEFORE)
    with (
        uvicorn(directory, "chat:app", path="/", **environment) as port,
        opened(directory, port, environment, browser) as chat,
    ):
        converse(chat, chat.open("ann"), chat.open("bob"), topic="tea")


def test_people_talk_on_after_each_step_of_the_move(tmp_path: Path, environment: dict[str, str], browser: int) -> None:
    directory = folder(tmp_path, BEFORE)
    with (
        Cluster(directory, "chat:app", "--workers", "2", env=clean_env(**environment)) as cluster,
        opened(directory, cluster.port, environment, browser) as chat,
    ):
        ann, bob = chat.open("ann"), chat.open("bob")
        converse(chat, ann, bob, topic="step 1")
        write(directory, BOTH)
        assert cluster.wsd("reload").returncode == 0
        write(directory, PAGE)
        bob = chat.open("bob")  # of the pages of Socket.IO, ann's has come back by itself
        converse(chat, ann, bob, topic="step 3")
        write(directory, {name: AFTER[name] for name in ("chat.py", "news.py", "wsd.toml")})
        assert cluster.wsd("reload").returncode == 0
        converse(chat, chat.open("ann"), bob, topic="step 4")


@long_run
@pytest.mark.parametrize("transports", ['["polling"]', '["polling", "websocket"]'])
def test_long_polling_works_where_each_address_has_its_worker(
    tmp_path: Path, environment: dict[str, str], browser: int, transports: str
) -> None:
    page = BEFORE["page.html"].replace('["websocket"]', transports)
    assert page != BEFORE["page.html"]
    directory = folder(tmp_path, {**BEFORE, "page.html": page, "wsd.toml": '[nginx]\naffinity = "ip"\n'})
    with (
        Cluster(directory, "chat:app", "--workers", "2", env=clean_env(**environment)) as cluster,
        opened(directory, cluster.port, environment, browser) as chat,
    ):
        converse(chat, chat.open("ann"), chat.open("bob"), topic="tea")
