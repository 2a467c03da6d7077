import os
import tempfile
from collections.abc import Iterator

import pytest

os.environ["DATABASE_URL"] = f"sqlite:///{tempfile.mkdtemp()}/test.sqlite3"

from chat.main import app
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def token(client: TestClient, name: str) -> str:
    return str(client.post("/login", json={"name": name, "password": "pw"}).json()["token"])


def test_messages_reach_everybody_in_the_room(client: TestClient) -> None:
    ann, bob = token(client, "ann"), token(client, "bob")
    with client.websocket_connect(f"/rooms/lobby?token={ann}") as first:
        assert first.receive_json() == {"name": "ann", "joined": "lobby"}
        with client.websocket_connect(f"/rooms/lobby?token={bob}") as second:
            assert first.receive_json() == {"name": "bob", "joined": "lobby"}
            assert second.receive_json() == {"name": "bob", "joined": "lobby"}
            first.send_text("hello")
            assert second.receive_json() == {"name": "ann", "text": "hello"}
            assert first.receive_json() == {"name": "ann", "text": "hello"}
        assert first.receive_json() == {"name": "bob", "left": "lobby"}
    assert client.get("/rooms/lobby/messages").json() == [{"name": "ann", "text": "hello"}]


def test_nobody_comes_in_without_a_token(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as ended, client.websocket_connect("/rooms/lobby?token=nonsense"):
        pass
    assert ended.value.code == 1008
