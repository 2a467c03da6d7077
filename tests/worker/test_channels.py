"""What was lost on the way and had no successor is found all the same: positions are compared now and then."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.ports import unused_port
from tests.valkey import server
from tests.waiting import eventually
from tests.worker.brokers import running_broker
from wsd.worker import channels
from wsd.worker.channel_options import ChannelRules
from wsd.worker.channels import Channels, Joined
from wsd.worker.connection import Outbox, Turns
from wsd.worker.contract import history_key, history_meta_key
from wsd.worker.fanout import Fanout

pytestmark = pytest.mark.anyio


async def test_a_loss_without_a_successor_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHECK_SECONDS", 0.2)
    with server(tmp_path / "redis", unused_port()) as redis:
        async with running_broker("a", redis.url) as (broker, _):
            fanout, outbox = Fanout(), Outbox("s", "ann", "Ann", Turns())
            checked = Channels(broker, fanout, ChannelRules(), timeout=1.0)
            running = asyncio.create_task(checked.run())
            heard: list[dict[str, object]] = []
            joined: list[Joined] = []

            async def send_text(text: str) -> None:
                heard.append(json.loads(text))

            pump = asyncio.create_task(outbox.pump(send_text))
            await eventually(lambda: broker.healthy)
            await checked.join("room", None, lambda: fanout.join(outbox, "room"), joined.append, outbox)
            await checked.publish("room", b'{"n":1}', "", None)
            await eventually(lambda: [message["n"] for message in heard] == [1])
            # Stored, and never published: as if the message had been lost between Redis and us.
            commands = broker.primary._publisher
            await commands.hset(history_meta_key("room"), "offset", "2")
            await commands.xadd(history_key("room"), {"m": 'another 1 {"n":2}'}, id="2-0")
            await eventually(lambda: [message["n"] for message in heard] == [1, 2])
            assert heard[1]["offset"] == 2
            assert checked.repaired == 1
            for task in (running, pump):
                task.cancel()
            await asyncio.gather(running, pump, return_exceptions=True)
