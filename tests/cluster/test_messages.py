"""Messages between clients of the built-in hub on several workers."""

import http.client
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_welcome_names_the_user_and_the_worker(cluster: Cluster) -> None:
    client = HubClient("42")
    client.username = "Ann%C3%A9"
    await client.connect(cluster)
    await client.close()
    assert client.welcome["user_id"] == "42"
    assert client.welcome["username"] == "Anné"
    assert client.welcome["node_id"] == cluster.status().node_id
    assert client.worker_id in [worker.worker_id for worker in cluster.status().workers]
    assert len(client.welcome["session_id"]) == 32


async def test_a_broadcast_crosses_between_all_pairs_of_workers(cluster: Cluster) -> None:
    clients = [await cluster.client_of(slot, f"user-{slot}") for slot in (1, 2, 3, 4)]
    for sender in clients:
        await sender.send({"type": "broadcast", "data": {"from_slot": sender.slot}})
        for receiver in clients:
            message = await receiver.next_message()
            assert message == {
                "type": "message",
                "channel": "broadcast",
                "data": {"from_slot": sender.slot},
                "from": {
                    "user_id": f"user-{sender.slot}",
                    "username": f"user-{sender.slot}",
                    "worker_id": sender.worker_id,
                },
            }
    for client in clients:
        await client.close()


async def test_one_senders_messages_arrive_in_order(cluster: Cluster) -> None:
    sender, receiver = await cluster.client_of(1), await cluster.client_of(2)
    for number in range(300):
        await sender.send({"n": number})
    for client in (receiver, sender):
        assert [(await client.receive())["data"]["n"] for _ in range(300)] == list(range(300))
        await client.close()


async def test_any_object_without_a_type_is_a_broadcast(cluster: Cluster) -> None:
    client = await cluster.client()
    await client.send({"text": "hi", "nested": [1, {"a": None}]})
    assert (await client.receive())["data"] == {"text": "hi", "nested": [1, {"a": None}]}
    await client.close()


async def test_a_request_with_an_id_is_acknowledged(cluster: Cluster) -> None:
    client = await cluster.client()
    await client.send({"type": "broadcast", "data": 1, "id": "a1"})
    message, ack = sorted([await client.receive(), await client.receive()], key=lambda answer: "id" in answer)
    position = {"offset": message["offset"], "epoch": message["epoch"]}
    assert ack == {"type": "ack", "id": "a1", "durable": True, **position}
    await client.send({"type": "ping", "id": 5})
    assert await client.receive() == {"type": "pong", "id": 5}
    await client.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "invalid_json"),
        ("[1]", "invalid_json"),
        ("not json", "invalid_json"),
        ('{"type": "nonsense", "id": 3}', "unknown_type"),
        ('{"type": "broadcast"}', "invalid_request"),
        ("[" * 20_000, "invalid_json"),
    ],
)
async def test_a_bad_message_is_answered_and_the_connection_lives(cluster: Cluster, sent: str, code: str) -> None:
    client = await cluster.client()
    await client.send(sent)
    answer = await client.receive()
    assert (answer["type"], answer["code"]) == ("error", code)
    await client.send({"type": "ping"})
    assert (await client.receive())["type"] == "pong"
    await client.close()


async def test_a_message_over_the_limit_closes_with_1009(cluster: Cluster) -> None:
    client = await cluster.client()
    await client.send(json.dumps({"text": "x" * 70_000}))
    with pytest.raises(ConnectionClosed):
        await client.receive()
    assert client.connection.close_code == 1009


async def test_a_name_with_direction_marks_is_refused(cluster: Cluster) -> None:
    async with connect(f"ws://127.0.0.1:{cluster.port}/ws?user_id=a%E2%80%AEb") as connection:
        with pytest.raises(ConnectionClosed):
            await connection.recv()
    assert connection.close_code == 1008
    assert "U+202E" in (connection.close_reason or "")


async def test_an_unknown_websocket_path_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{cluster.port}/nowhere")
    assert refused.value.response.status_code in (403, 404)


async def test_the_page_to_try_it_is_served(cluster: Cluster) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/html")
    assert b"hub.js" in response.read()
    connection.request("GET", "/client.js")
    response = connection.getresponse()
    assert (response.status, response.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert response.headers["access-control-allow-origin"] == "*", "so that pages of other sites may load the client"
    assert b"class WsdClient" in response.read()
    connection.request("GET", "/client.js", headers={"If-None-Match": response.headers["etag"]})
    again = connection.getresponse()
    assert (again.status, again.read()) == (304, b"")
    connection.request("GET", "/client.js", headers={"If-None-Match": '"another"'})
    changed = connection.getresponse()
    assert (changed.status, changed.read()[:2]) == (200, b"//")
    connection.close()


def test_health_tells_of_the_whole_cluster(cluster: Cluster) -> None:
    def health_of_all() -> dict[str, object] | None:
        code, health = cluster.health()
        assert code == 200
        return health if health["websocket"]["total_workers"] == 4 else None

    health = until(health_of_all, "a worker that has counted all four")
    assert health["status"] == "healthy"
    websocket = health["websocket"]
    assert isinstance(websocket, dict)
    assert websocket["session_store_healthy"] is True
    assert websocket["message_broker_healthy"] is True
    assert set(websocket) == {
        "worker_id",
        "session_store_healthy",
        "message_broker_healthy",
        "local_connections",
        "total_sessions",
        "total_workers",
        "mode",
        "breaker",
        "loop_lag",
    }
