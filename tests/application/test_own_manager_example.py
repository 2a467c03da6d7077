"""The application that docs/migration/fastapi.md makes of one with its own connection manager."""

import ast
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.support.examples import EXAMPLES, example
from tests.support.pages import ROOT, blocks
from wsd.testing import TestCluster

PAGE = ROOT / "docs" / "migration" / "fastapi.md"
CHANGES = [block.text for block in blocks(PAGE) if block.language == "diff"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with TestCluster(example("from_own_manager").app) as serving:
        yield serving


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def client(cluster: TestCluster, opened: ExitStack, path: str) -> ClientConnection:
    """Connect a client. Each call takes the next worker."""
    return opened.enter_context(connect(cluster.url(path).replace("http", "ws")))


def hear(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(timeout=10))


def test_every_change_leads_to_the_example_and_is_python() -> None:
    application = (EXAMPLES / "from_own_manager.py").read_text("utf-8")
    assert len(CHANGES) == 5
    for change in CHANGES:
        lines = [line for line in change.splitlines() if line]
        for line in lines:
            if line[0] != "-" and line != "+from wsd import ConnectionManager":
                assert f"\n{line[1:]}\n" in application
        for sign in "-+":
            side = [line[1:] for line in lines if line[0] in (" ", sign)]
            inside = [line for line in side if line.startswith(" ")]
            ast.parse("async def endpoint():\n" + "\n".join(inside))
            ast.parse("\n".join(line for line in side if not line.startswith(" ")))


def test_everyone_in_a_room_but_the_sender_hears_it(cluster: TestCluster, opened: ExitStack) -> None:
    ann, bob = [client(cluster, opened, "/rooms/a") for _ in range(2)]
    ann.send('{"text": "hello"}')
    assert hear(bob) == {"text": "hello"}
    bob.close()
    assert hear(ann) == {"left": "a"}


def test_each_game_is_a_room(cluster: TestCluster, opened: ExitStack) -> None:
    ann, bob, cas = [client(cluster, opened, f"/games/{game}") for game in (0, 0, 1)]
    cas.send('{"to": "e5"}')
    ann.send('{"to": "e4"}')
    assert hear(ann) == hear(bob) == {"to": "e4"}
    assert hear(cas) == {"to": "e5"}


def test_pictures_are_bytes(cluster: TestCluster, opened: ExitStack) -> None:
    ann, bob = [client(cluster, opened, "/pictures") for _ in range(2)]
    ann.send(b"\xff\x00")
    assert ann.recv(timeout=10) == bob.recv(timeout=10) == b"\xff\x00"


def test_a_user_is_a_room(cluster: TestCluster, opened: ExitStack) -> None:
    ann, again, bob, eve = [client(cluster, opened, "/private") for _ in range(4)]
    for one, token in ((ann, "secret-of-ann"), (again, "secret-of-ann"), (bob, "secret-of-bob"), (eve, "guess")):
        one.send(token)
    with pytest.raises(ConnectionClosedError, match="unknown token"):
        hear(eve)
    ann.send('{"to": "ann", "text": "one"}')
    assert hear(ann) == {"from": "ann", "text": "one"}
    again.send('{"to": "ann", "text": "two"}')
    while hear(again)["text"] != "two":  # it may have come before the first
        pass
    assert hear(ann) == {"from": "ann", "text": "two"}
    bob.send('{"to": "ann", "text": "psst"}')
    assert hear(ann) == hear(again) == {"from": "bob", "text": "psst"}


def test_a_page_gets_the_newest_notes_or_those_that_it_missed(cluster: TestCluster, opened: ExitStack) -> None:
    ann = client(cluster, opened, "/notes/a")
    for text in ("one", "two"):
        ann.send(text)
    first, second = hear(ann), hear(ann)
    assert [first["text"], second["text"]] == ["one", "two"]
    bob = client(cluster, opened, "/notes/a")
    assert [hear(bob), hear(bob)] == [first, second]
    assert hear(client(cluster, opened, f"/notes/a?at={first['at']}")) == second
    assert hear(client(cluster, opened, "/notes/a?at=1:lost"))["gap"] is True
