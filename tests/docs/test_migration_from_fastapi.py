"""The chat of docs/migration/fastapi.md, before and after its move to wsd."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.support.browser import open_tab
from tests.support.cluster import Cluster, clean_env
from tests.support.migrations import versions, write
from tests.support.ports import unused_port
from tests.support.server import uvicorn
from tests.support.valkey import valkey
from tests.support.waiting import until
from wsd.testing import TestCluster

FILES = versions("fastapi.md")
BEFORE, AFTER, WITH_HISTORY = FILES["chat.py"]
PAGE, PAGE_THAT_COMES_BACK = FILES["page.html"]

pytestmark = pytest.mark.anyio


async def conversation(first: int, second: int) -> list[str]:
    """Let two clients talk, each connected to one of two ports, and return what they hear."""
    async with connect(f"ws://127.0.0.1:{first}/ws/1") as ann:
        async with connect(f"ws://127.0.0.1:{second}/ws/2") as bob:
            await ann.send("hello")
            heard = [str(await each.recv()) for each in (ann, ann, bob)]
            await bob.send("hi")
            heard += [str(await each.recv()) for each in (bob, bob, ann)]
        return [*heard, str(await ann.recv())]


async def test_the_clients_hear_the_same_before_and_after(tmp_path: Path) -> None:
    with uvicorn(write(tmp_path / "before", {"chat.py": BEFORE, "page.html": PAGE}), "chat:app", path="/") as port:
        before = await conversation(port, port)
    after = write(tmp_path / "after", {"chat.py": AFTER, "page.html": PAGE})
    with Cluster(after, "chat:app", "--workers", "2") as cluster:
        assert await conversation(cluster.port, cluster.port) == before
        assert cluster.get("/") == (200, PAGE.encode())
    assert before[0] == "You wrote: hello"
    assert before[-1] == "Client #2 left the chat"


async def test_uvicorn_and_wsd_are_one_cluster_while_the_chat_moves(tmp_path: Path) -> None:
    write(tmp_path, {"chat.py": AFTER, "page.html": PAGE})
    with (
        valkey(tmp_path / "valkey", unused_port()) as url,
        uvicorn(tmp_path, "chat:app", path="/", REDIS_URL=url) as port,
        Cluster(tmp_path, "chat:app", "--workers", "2", env=clean_env(REDIS_URL=url)) as cluster,
    ):
        assert await conversation(port, cluster.port) == await conversation(cluster.port, port)


@pytest.fixture
def chat_with_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestCluster]:
    write(tmp_path, {"chat.py": WITH_HISTORY, "page.html": PAGE_THAT_COMES_BACK})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with TestCluster(importlib.import_module("chat").app) as cluster:
        yield cluster
    del sys.modules["chat"]


def test_a_page_with_the_history_hears_what_was_said_during_a_deploy(
    chat_with_a_history: TestCluster, browser: int
) -> None:
    cluster = chat_with_a_history
    with (
        open_tab(browser, cluster.url("/", worker=0)) as one,
        open_tab(browser, cluster.url("/", worker=1)) as other,
    ):
        for tab in (one, other):
            until(lambda: tab.run("globalThis.form && socket.readyState === WebSocket.OPEN"))  # noqa: B023
        one.run("text.value = 'before'; form.requestSubmit()")
        for tab in (one, other):
            until(lambda: "says: before" in tab.text("#messages"))  # noqa: B023
        one.run("setTimeout = (connect) => { globalThis.again = connect; }")  # it comes back when the test says so
        cluster.restart(0)
        until(lambda: one.run("typeof again === 'function'"), "the end of its connection")
        other.run("text.value = 'meanwhile'; form.requestSubmit()")
        until(lambda: "says: meanwhile" in other.text("#messages"))
        one.run("again()")
        until(lambda: "says: meanwhile" in one.text("#messages"))
        assert one.text("#messages").count("meanwhile") == one.text("#messages").count("says: before") == 1
        assert "left" not in other.text("#messages")
        for tab in (one, other):
            tab.call("Page.navigate", url="about:blank")  # otherwise the page goes on connecting
