"""The applications in docs/applications.md, as they stand there: under Starlette's TestClient and under `wsd start`."""

import json
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_in_thread

from tests.support.cluster import Cluster
from tests.support.examples import EXAMPLES, example
from tests.support.pages import ROOT, files
from tests.support.server import get
from tests.support.waiting import eventually
from wsd.testing import TestCluster

SHOWN = files(ROOT / "docs" / "applications.md")


@pytest.mark.parametrize("name", ["rooms.py", "numbered_rooms.py", "direct_messages.py", "reports.py"])
def test_what_the_document_shows_is_the_example(name: str) -> None:
    assert SHOWN[name] == (EXAMPLES / name).read_text("utf-8")


def test_rooms() -> None:
    with TestClient(example("rooms").app) as client:
        with client.websocket_connect("/rooms/a?name=ann") as ann:
            ann.send_text("hello")
            assert ann.receive_json() == {"from": "ann", "text": "hello"}
            with client.websocket_connect("/rooms/a?name=bob") as bob:
                assert bob.receive_json() == {"from": "ann", "text": "hello"}, "the newest messages come first"
                assert sorted(client.get("/rooms/a/members").json()) == ["ann", "bob"]
                assert client.post("/rooms/a?text=tea").json() == {"everywhere": True}
                assert ann.receive_json() == bob.receive_json() == {"from": "the server", "text": "tea"}


def test_rooms_whose_clients_come_back() -> None:
    with TestClient(example("numbered_rooms").app) as client:
        with client.websocket_connect("/rooms/a?name=ann") as ann:
            with client.websocket_connect("/rooms/a?name=bob") as bob:
                token = bob.receive_json()["token"]
                ann.receive_json()
                ann.send_text("one")
                at = bob.receive_json()["at"]
                bob.close(4000)  # not 1000, which would end its session
            ann.send_text("two")
            assert [ann.receive_json()["data"] for _ in range(2)] == ["one", "two"]
            with client.websocket_connect(f"/rooms/a?name=bob&token={token}&at={at}") as bob:
                frames = [bob.receive_json(), bob.receive_json()]
                assert [one["data"] for one in frames if "data" in one] == ["two"]
            with client.websocket_connect(f"/rooms/a?name=cem&at={at}") as cem:
                frames = [cem.receive_json(), cem.receive_json()]
                assert [one["data"] for one in frames if "data" in one] == ["two"]
            with client.websocket_connect("/rooms/a?name=cem&at=nowhere") as cem:
                with pytest.raises(WebSocketDisconnect) as refused:
                    cem.receive_json()
                assert (refused.value.code, refused.value.reason) == (1008, "'nowhere' is no position")


def test_direct_messages() -> None:
    with TestCluster(example("direct_messages").app) as cluster:
        urls = [cluster.url(f"/direct?name={name}").replace("http", "ws") for name in ("ann", "bob", "bob")]
        with connect_in_thread(urls[0]) as ann, connect_in_thread(urls[1]) as bob, connect_in_thread(urls[2]) as bobs:
            ann.send("bob hello there")
            for connection in (bob, bobs):
                assert json.loads(connection.recv(10)) == {"from": "ann", "text": "hello there"}
            ann.send("")
            assert "user_id must" in json.loads(ann.recv(10))["error"]


def test_reports() -> None:
    with TestCluster(example("reports").app) as cluster:
        watching = cluster.url("/reports/sales").replace("http", "ws")
        with connect_in_thread(watching) as early:
            assert httpx2.post(cluster.url("/reports/sales")).status_code == 200
            assert [json.loads(early.recv(10))["percent"] for _ in range(3)] == [0, 50, 100]
        with connect_in_thread(watching) as late:
            assert json.loads(late.recv(10))["percent"] == 100


@pytest.mark.anyio
async def test_rooms_under_wsd_start(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "rooms.py", tmp_path)
    with Cluster(tmp_path, "--workers", "2", "--app", "rooms:app") as cluster:
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{cluster.port}/rooms/a?name="
            members = [await stack.enter_async_context(connect(url + name)) for name in ("ann", "bob", "cem", "dan")]
            await eventually(lambda: all(worker.connections for worker in cluster.status().workers))
            await members[0].send("hello")
            for member in members:
                assert json.loads(await member.recv()) == {"from": "ann", "text": "hello"}
            assert sorted(json.loads(get(cluster.port, "/rooms/a/members")[2])) == ["ann", "bob", "cem", "dan"]
