"""The table of docs/guides/limits.md: a client that goes beyond each limit sees what the table says."""

import http.client
import json
import re
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient, close_of
from tests.support.pages import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs" / "guides" / "limits.md").read_text("utf-8")

CONNECTIONS = 32

CONFIG = f"""
[nginx]
workers = 1
worker_connections = {2 * CONNECTIONS}
trusted_proxies = ["127.0.0.1"]
handshakes_per_second_per_address = 1
handshake_burst_per_address = 4
max_body_bytes = 2000
max_header_bytes = 4096

[websocket]
max_message_bytes = 6000

[security]
max_connections_per_user = 2
messages_per_second = 1
message_burst = 10
bytes_per_second = 1
byte_burst = 20000
api_key = "a-key-for-this-test"

[channels."small"]
max_members = 1

[channels."short"]
history_size = 2
"""


class At:
    """The cluster, as a client with an address of its own reaches it."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        self.cluster, self.address = cluster, address

    async def open(self, query: str = "") -> ClientConnection:
        headers = {"X-Forwarded-For": self.address}
        return await connect(f"{self.cluster.url}?{query}", additional_headers=headers, ping_interval=None)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("limited"), "--workers", "1", config=CONFIG) as cluster:
        yield cluster


def row(sees: str) -> str:
    """Return the row of the table that begins with what a client sees."""
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {sees}")]
    return found


METRICS = {
    "refused": "wsd_refused_total",
    "closed": "wsd_connections_closed_total",
    "missed": "wsd_history_losses_total",
}


def counted(cluster: Cluster, sees: str) -> float:
    """Return how often a cluster has counted what a client sees, by the metric and the reason in the row."""
    found = re.search(r"\| (\w+): `(\w+)`[^|]* \|$", row(sees))
    assert found is not None, row(sees)
    _, body = cluster.get("/metrics")
    pattern = rf'^{METRICS[found[1]]}{{.*reason="{found[2]}".*}} (\S+)$'
    return sum(map(float, re.findall(pattern, body.decode(), re.MULTILINE)))


async def test_messages_that_are_too_many_or_too_large(limited: Cluster) -> None:
    ann = HubClient("ann")
    await ann.connect(At(limited, "192.0.2.1"))
    await ann.subscribe("room")
    asked = [await ann.ask(type="publish", channel="room", data="x") for _ in range(12)]
    assert asked[-1]["code"] == "rate_limited", row("the error `rate_limited`")
    for _ in range(11):
        await ann.send({"type": "broadcast", "data": "x"})
    assert (await close_of(ann.connection))[0] == 4429
    assert counted(limited, "the error `rate_limited`") > 0
    assert "4429" in limited.wsd("trace", "ann").stdout

    bea = HubClient("bea")
    await bea.connect(At(limited, "192.0.2.1"))
    asked = [await bea.ask(type="publish", channel="room", data="x" * 5000) for _ in range(4)]
    assert asked[-1]["code"] == "byte_rate_limited", row("the error `byte_rate_limited`")
    assert counted(limited, "the error `byte_rate_limited`") > 0
    await bea.send({"type": "broadcast", "data": "x" * 7000})
    assert (await close_of(bea.connection))[0] == 1009
    assert counted(limited, "1009") == 1


async def test_channels(limited: Cluster) -> None:
    ann, bob = HubClient("cat"), HubClient("dan")
    await ann.connect(At(limited, "192.0.2.2"))
    await bob.connect(At(limited, "192.0.2.2"))
    await ann.subscribe("small")
    assert (await bob.ask(type="subscribe", channel="small"))["code"] == "channel_full", row("the error `channel_full`")
    await bob.subscribe("short")
    await bob.drop()
    for number in range(4):
        await ann.ask(type="publish", channel="short", data=number)
    state = (await bob.connect(At(limited, "192.0.2.2")))["channels"]["short"]
    assert (state["recovered"], state["reason"]) == (False, "trimmed"), row('`"recovered": false`')
    assert counted(limited, '`"recovered": false`') == 1
    assert "missed messages in short: trimmed" in limited.wsd("trace", "dan").stdout
    await ann.close()
    await bob.close()


async def test_connections_of_a_user_and_handshakes_of_an_address(limited: Cluster) -> None:
    users = [HubClient("eve") for _ in range(3)]
    for user in users[:2]:
        await user.connect(At(limited, "192.0.2.3"))
    refused = await At(limited, "192.0.2.3").open("user_id=eve")
    code, reason = await close_of(refused)
    assert code == 4429
    assert str(reason) in row("4429")
    assert counted(limited, "4429") == 1
    for user in users[:2]:
        await user.close()
    with pytest.raises(InvalidStatus) as too_fast:
        for number in range(6):
            await (await At(limited, "192.0.2.4").open(f"user_id=f{number}")).close()
    assert too_fast.value.response.status_code == 429, row("429")
    assert too_fast.value.response.headers["Retry-After"]


def answer(cluster: Cluster, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    connection.request("POST", "/api/websocket/publish", body, {"X-API-Key": "a-key-for-this-test", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


def test_http_requests_that_are_too_large(limited: Cluster) -> None:
    body = json.dumps({"channel": "room", "data": "x"}).encode()
    assert answer(limited, body, {}) == 200
    assert row("413")
    assert answer(limited, body + b" " * 2000, {}) == 413
    assert row("400")
    assert answer(limited, body, {"Cookie": "x" * 5000}) == 400


async def test_connections_of_the_node(limited: Cluster) -> None:
    assert limited.status().connections_possible == CONNECTIONS
    opened: list[ClientConnection] = []
    with pytest.raises(ConnectionResetError):
        while len(opened) <= CONNECTIONS:
            assert limited.get("/health")[0] == 200
            number = len(opened)
            opened.append(await At(limited, f"192.0.2.{100 + number}").open(f"user_id=g{number}"))
    assert row("the connection is reset")
    assert CONNECTIONS - 4 <= len(opened) <= CONNECTIONS
    assert await eventually(lambda: [text for text in limited.status().warnings if "connections possible" in text])
    for connection in opened:
        await connection.close()
