"""The clients lose nothing and double nothing while their workers are killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.node_programs import node_program
from tests.support.waiting import eventually
from wsd.client import RequestError, WsdClient

pytestmark = pytest.mark.anyio

KILLS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    with Cluster(tmp_path, "--workers", "2") as running:
        yield running


async def publish_numbers(cluster: Cluster, count: int) -> None:
    """Publish numbers by another client, which is cut off, too, when its worker dies."""
    async with WsdClient(cluster.url, "source") as source:
        for number in range(count):
            ack = await source.publish("numbers", number)
            assert ack.offset is not None
            await asyncio.sleep(0.01)


async def counted(cluster: Cluster) -> list[Any]:
    """Return everything that was ever published to the channel `counted`."""
    client = await cluster.client("auditor")
    found: list[Any] = []
    while True:
        page = await client.ask(type="history", channel="counted", since=len(found), limit=500)
        if not page["messages"]:
            await client.close()
            return found
        found += [message["data"] for message in page["messages"]]


async def test_the_python_client(cluster: Cluster) -> None:
    heard: list[Any] = []
    async with WsdClient(cluster.url, "reader") as client:
        await client.subscribe("numbers")
        session_id = client.welcome["session_id"]

        async def read() -> None:
            async for message in client:
                assert message["type"] == "message", message
                heard.append(message["data"])

        reading = asyncio.create_task(read())
        load = asyncio.create_task(publish_numbers(cluster, 400))
        for number in range(1, KILLS + 1):
            await eventually(lambda number=number: len(heard) > 100 * number)  # type: ignore[misc]
            worker_id = client.welcome["worker_id"]
            await cluster.kill_worker(worker_id)
            await eventually(lambda worker_id=worker_id: client.welcome["worker_id"] != worker_id)  # type: ignore[misc]
        await load
        await eventually(lambda: len(heard) >= 400)
        assert heard == list(range(400))
        assert client.welcome["resumed"]
        assert client.welcome["session_id"] == session_id
        reading.cancel()


async def test_messages_under_way_when_their_worker_died_are_stored_once(cluster: Cluster) -> None:
    async with WsdClient(cluster.url, "source") as client:
        await client.publish("counted", -1)
        publishing = [asyncio.create_task(client.publish("counted", number)) for number in range(50)]
        await cluster.kill_worker(client.welcome["worker_id"])
        acks = await asyncio.gather(*publishing)
        assert len({ack.offset for ack in acks}) == 50
        assert sorted(await counted(cluster)) == list(range(-1, 50))


async def test_a_refused_client_does_not_come_back(cluster: Cluster) -> None:
    async with WsdClient(cluster.url, "a\u202eb") as client:
        with pytest.raises(RequestError, match="closed: "):
            await client.publish("room", 1)
        assert (client.state.name, client.state.code) == ("closed", 1008)
        with pytest.raises(RequestError, match="closed: "):
            await anext(aiter(client))


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while line := await reader.readline():
        yield json.loads(line)


async def test_the_javascript_client(cluster: Cluster, tmp_path: Path) -> None:
    command = node_program("number_reader", tmp_path)
    process = await asyncio.create_subprocess_exec(*command, cluster.url, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    heard: list[int] = []
    others: list[dict[str, Any]] = []

    async def read(stdout: asyncio.StreamReader) -> None:
        async for message in lines(stdout):
            if message.get("channel") == "numbers" and message["type"] == "message":
                heard.append(message["data"])
            else:
                others.append(message)

    def worker_id() -> str:
        return str([message["id"] for message in others if message["type"] == "worker"][-1])

    reading = asyncio.create_task(read(process.stdout))
    try:
        await eventually(lambda: {"type": "ready"} in others)
        load = asyncio.create_task(publish_numbers(cluster, 400))
        for number in range(1, KILLS + 1):
            await eventually(lambda number=number: len(heard) > 100 * number)  # type: ignore[misc]
            before = worker_id()
            await cluster.kill_worker(before)
            await eventually(lambda before=before: worker_id() != before)  # type: ignore[misc]
        await load
        await eventually(lambda: len(heard) >= 400)
        assert heard == list(range(400))
        assert {message["type"] for message in others} == {"worker", "ready"}
    finally:
        process.kill()
        await process.wait()
        await reading
    published = await counted(cluster)
    assert published == list(range(published[0], published[-1] + 1)), "each once, whatever happened to its worker"
    assert len(published) > 100


async def test_javascript_clients_are_back_after_a_stop_and_a_start(cluster: Cluster, tmp_path: Path) -> None:
    """A handshake that fails in Node 20 and 22 fires `error`, and no `close`."""
    command = node_program("returning_clients", tmp_path)
    process = await asyncio.create_subprocess_exec(*command, cluster.url, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    states: dict[int, list[str]] = {}

    async def read(stdout: asyncio.StreamReader) -> None:
        async for message in lines(stdout):
            states.setdefault(message["number"], []).append(message["state"])

    def have_opened(times: int) -> bool:
        return len(states) == 10 and all(seen.count("open") == times for seen in states.values())

    reading = asyncio.create_task(read(process.stdout))
    try:
        await eventually(lambda: have_opened(1))
        await asyncio.to_thread(cluster.wsd, "stop")
        cluster.wait()
        await asyncio.sleep(2)  # so that handshakes fail: nobody can see from outside that one did
        cluster.output_path.unlink()
        cluster.launch()
        await asyncio.to_thread(cluster.wait_until_up)
        await eventually(lambda: have_opened(2))
    finally:
        process.kill()
        await process.wait()
        await reading


async def test_more_at_once_than_is_allowed_arrives_all_the_same(cluster: Cluster) -> None:
    async with WsdClient(cluster.url, "hasty") as client:
        acks = await asyncio.gather(*(client.publish("counted", number) for number in range(500)))
        assert len({ack.offset for ack in acks}) == 500
    assert sorted(await counted(cluster)) == list(range(500))


async def test_a_message_that_is_too_big_is_refused_and_the_client_goes_on(cluster: Cluster) -> None:
    async with WsdClient(cluster.url, "big") as client:
        with pytest.raises(RequestError, match="too_big"):
            await client.publish("room", "x" * 100_000)
        assert (await client.publish("room", "small")).offset is not None
