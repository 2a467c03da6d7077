"""An application with a `Cluster` on several workers in the process of its tests, see docs/testing.md."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.apps.rooms import app, cluster
from wsd.testing import AsyncTestCluster

pytestmark = pytest.mark.anyio


async def test_each_worker_publishes_once_and_to_all() -> None:
    async with (
        AsyncTestCluster(app, workers=2) as testing,
        connect("ws" + testing.url("/rooms/a?name=ann", worker=0).removeprefix("http")) as ann,
        connect("ws" + testing.url("/numbered/a?name=bob", worker=1).removeprefix("http")) as bob,
    ):
        assert json.loads(await ann.recv()) == {"you": "ann"}
        assert json.loads(await bob.recv())["at"] == 0
        await ann.send("hi")
        assert await ann.recv() == "hi"
        await asyncio.to_thread(cluster.sync.publish, "room:a", "from a thread")
        got: list[Any] = [json.loads(await bob.recv()) for _ in range(2)]
        assert [(one["n"], one["data"]) for one in got] == [(1, "hi"), (2, "from a thread")]
        assert await ann.recv() == "from a thread"
        presence = await cluster.presence("room:a")
        assert {member.user_id for member in presence.members} == {"ann", "bob"}
