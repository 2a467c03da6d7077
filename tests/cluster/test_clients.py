"""The Python client on a real hub: what is refused, and what is more than the hub takes at once.

tests/clients/test_real_cluster.py tries clients of all kinds while their cluster is broken.
"""

import asyncio
from typing import Any

import pytest

from tests.support.cluster import Cluster
from wsd.client import RequestError, WsdClient

pytestmark = pytest.mark.anyio


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


async def test_a_refused_client_does_not_come_back(cluster: Cluster) -> None:
    async with WsdClient(cluster.url, "a\u202eb") as client:
        with pytest.raises(RequestError, match="closed: "):
            await client.publish("room", 1)
        assert (client.state.name, client.state.code) == ("closed", 1008)
        with pytest.raises(RequestError, match="closed: "):
            await anext(aiter(client))


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
