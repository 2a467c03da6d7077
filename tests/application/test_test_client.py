"""An application with a `Cluster`, tested with Starlette's TestClient as its authors do it."""

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

from tests.apps.rooms import app, cluster
from wsd import Cluster, WorkerNotRunningError
from wsd.worker.application.client import Client
from wsd.worker.application.records import Record


@pytest.mark.parametrize("time", ["the first", "the second"])
def test_each_test_may_have_a_test_client_of_its_own(time: str) -> None:
    with TestClient(app) as client:
        with client.websocket_connect("/rooms/a?name=ann") as ann, client.websocket_connect("/numbered/a") as bob:
            assert ann.receive_json() == {"you": "ann"}
            assert bob.receive_json()["at"] == 0, "nothing is left of an earlier test"
            ann.send_text("hi")
            assert ann.receive_text() == "hi"
            assert bob.receive_json() == {"n": 1, "by": "ann", "data": "hi"}
        with client.websocket_connect("/rooms/a") as guest:
            assert guest.receive_json()["you"].startswith("guest-")


def test_routes_publish_to_clients() -> None:
    with TestClient(app) as client, client.websocket_connect("/rooms/orders") as watching:
        watching.receive_json()
        assert client.post("/orders", json={"id": 1}).json() == {"everywhere": True}
        assert watching.receive_json() == {"id": 1}
        assert client.post("/blocking-orders", json={"id": 2}).json() == {"everywhere": True}
        assert watching.receive_json() == {"id": 2}
        cluster.sync.publish("room:orders", "from the test itself")
        assert watching.receive_text() == "from the test itself"


def test_without_a_lifespan_clients_reach_each_other_too() -> None:
    client = TestClient(app)
    with client.websocket_connect("/rooms/a?name=ann") as ann, client.websocket_connect("/rooms/a?name=bob") as bob:
        assert (ann.receive_json(), bob.receive_json()) == ({"you": "ann"}, {"you": "bob"})
        ann.send_text("hi")
        assert (ann.receive_text(), bob.receive_text()) == ("hi", "hi")


def test_publishing_without_a_worker_says_how_to_have_one() -> None:
    with pytest.raises(WorkerNotRunningError, match=r"wsd start --app.*wsd\.Publisher"):
        cluster.sync.publish("a", 1)


def test_the_hub_is_mounted_anywhere() -> None:
    with TestClient(app) as client, client.websocket_connect("/live/ws?user_id=eve") as hub:
        assert hub.receive_json()["user_id"] == "eve"
        hub.send_json({"type": "subscribe", "channel": "room:a", "id": 1})
        assert [hub.receive_json()["type"] for _ in range(2)] == ["subscribed", "ack"]
        with client.websocket_connect("/rooms/a?name=ann") as ann:
            ann.receive_json()
            hub.send_json({"type": "publish", "channel": "room:a", "data": {"text": "hi"}})
            assert ann.receive_json() == {"text": "hi"}
            message = hub.receive_json()
            assert (message["from"]["user_id"], message["data"]) == ("eve", {"text": "hi"})
        assert client.get("/live/").status_code == client.get("/live/client.js").status_code == 200


class Unhashable:
    """An `encode` that `serve` cannot take, because formats are kept by their function."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, record: Record) -> str:
        return repr(record)


def test_a_client_that_cannot_be_served_is_not_kept() -> None:
    own = Cluster()
    serving = FastAPI(lifespan=own.lifespan)

    @serving.websocket("/own")
    async def endpoint(websocket: WebSocket) -> None:
        async with own.serve(websocket, encode=Unhashable()):
            pass

    with TestClient(serving) as client:
        with pytest.raises(TypeError, match="unhashable"), client.websocket_connect("/own") as connection:
            connection.receive_text()
        assert own.sync.stats().connections == 0


def test_the_rate_of_bytes_is_that_of_the_text_in_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    async def count(self: Client, size: int) -> None:
        counted.append(size)

    monkeypatch.setattr(Client, "_keep_to_rates", count)
    with TestClient(app) as client, client.websocket_connect("/rooms/a") as connection:
        connection.receive_json()
        connection.send_text("\u00fc\U0001f642")
        assert connection.receive_text() == "\u00fc\U0001f642"
    assert counted == [6]
