"""Channels and messages to users, across all workers."""

import json
from contextlib import AsyncExitStack

import pytest

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.waiting import eventually
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio


async def clients_on(cluster: Cluster, stack: AsyncExitStack, *slots: int) -> list[HubClient]:
    clients = [await cluster.client_of(slot, f"user-{slot}-{number}") for number, slot in enumerate(slots)]
    for client in clients:
        stack.push_async_callback(client.close)
    return clients


def message(client: HubClient, data: object, channel: str | None = None) -> dict[str, object]:
    who = {key: client.welcome[key] for key in ("user_id", "username", "worker_id")}
    return {"type": "message", "data": data, "from": who, **({"channel": channel} if channel else {})}


async def test_members_on_all_workers_get_what_is_published_and_others_do_not(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        members = await clients_on(cluster, stack, 1, 2, 3, 4)
        sender, outsider = await clients_on(cluster, stack, 1, 2)
        for member in members:
            assert (await member.ask(type="subscribe", channel="room:1"))["type"] == "ack"
        assert (await sender.ask(type="publish", channel="room:1", data={"n": 1}))["type"] == "ack"
        for member in members:
            assert await member.next_message() == message(sender, {"n": 1}, "room:1")
        for silent in (sender, outsider):
            assert (await silent.ask(type="ping"))["type"] == "pong"
            assert silent.unread == []


async def test_a_subscription_holds_from_its_ack_on(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        one, two = await clients_on(cluster, stack, 1, 2)
        for number in range(50):
            channel = f"fresh-{number}"
            await two.ask(type="subscribe", channel=channel)
            await one.ask(type="publish", channel=channel, data=number)
            assert await two.next_message() == message(one, number, channel)


async def test_a_client_that_left_a_channel_gets_no_more_of_its_messages(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        sender, stays, leaves = await clients_on(cluster, stack, 1, 2, 2)
        for client in (stays, leaves):
            await client.ask(type="subscribe", channel="leaving")
            await client.ask(type="subscribe", channel="leaving")  # twice is once
        await leaves.ask(type="unsubscribe", channel="leaving")
        await leaves.ask(type="unsubscribe", channel="never-joined")
        await sender.ask(type="publish", channel="leaving", data=1)
        assert await stays.next_message() == message(sender, 1, "leaving")
        await leaves.ask(type="ping")
        await stays.ask(type="ping")
        for client in (leaves, stays):
            assert [message for message in client.unread if message["type"] == "message"] == []


async def test_quick_joins_and_leaves_end_as_the_last_request_says(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        sender, hasty = await clients_on(cluster, stack, 1, 2)
        for _ in range(20):
            await hasty.send({"type": "subscribe", "channel": "hurry"})
            await hasty.send({"type": "unsubscribe", "channel": "hurry"})
        await hasty.ask(type="subscribe", channel="hurry")
        await sender.ask(type="publish", channel="hurry", data=1)
        assert await hasty.next_message() == message(sender, 1, "hurry")


async def test_a_worker_is_subscribed_only_while_it_has_members(cluster: Cluster) -> None:
    redis = open_redis(f"unix://{cluster.state_dir.valkey_socket}", connect_timeout=1, timeout=4)
    try:

        async def subscribers() -> int:
            ((_, count),) = await redis.pubsub_numsub("ws_channel:{lonely}")
            return int(count)

        one, two = await cluster.client_of(1), await cluster.client_of(1)
        for client in (one, two):
            await client.ask(type="subscribe", channel="lonely")
        assert await subscribers() == 1
        await one.ask(type="unsubscribe", channel="lonely")
        assert await subscribers() == 1
        await two.close()
        for _ in range(500):
            if await subscribers() == 0:
                break
        assert await subscribers() == 0
        await one.close()
    finally:
        await redis.aclose()


async def test_a_direct_message_reaches_all_connections_of_its_user_and_no_others(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        anns = [await cluster.client_of(slot, "ann-the-user") for slot in (1, 2, 3)]
        for client in anns:
            stack.push_async_callback(client.close)
        sender, other = await clients_on(cluster, stack, 4, 2)
        assert (await sender.ask(type="direct", user_id="ann-the-user", data={"psst": 1}))["type"] == "ack"
        for ann in anns:
            assert await ann.next_message() == message(sender, {"psst": 1}, "direct")
        for silent in (sender, other):
            await silent.ask(type="ping")
            assert silent.unread == []
        assert (await sender.ask(type="direct", user_id="nobody", data=1))["type"] == "ack"


@pytest.mark.parametrize("channel", ["", "a b", "broadcast", "x" * 256, "{worker}"])
async def test_a_bad_channel_is_refused(cluster: Cluster, channel: str) -> None:
    client = await cluster.client()
    for kind in ("subscribe", "unsubscribe", "publish"):
        answer = await client.ask(type=kind, channel=channel, data=1)
        assert (answer["type"], answer["code"]) == ("error", "invalid_channel")
    await client.close()


async def test_a_user_that_cannot_be_is_refused(cluster: Cluster) -> None:
    client = await cluster.client()
    for user_id in ("", "x" * 129, "a\u202eb"):
        answer = await client.ask(type="direct", user_id=user_id, data=1)
        assert (answer["type"], answer["code"]) == ("error", "invalid_user")
    await client.close()


async def test_the_channels_of_a_connection_are_limited(cluster: Cluster) -> None:
    client = await cluster.client()
    answers = [await client.ask(type="subscribe", channel=f"many-{number}") for number in range(101)]
    assert [answer["type"] for answer in answers] == ["ack"] * 100 + ["error"]
    assert answers[-1]["code"] == "too_many_channels"
    await client.ask(type="unsubscribe", channel="many-0")
    assert (await client.ask(type="subscribe", channel="one-more"))["type"] == "ack"
    await client.close()


async def test_the_sender_of_a_message_cannot_be_forged(cluster: Cluster) -> None:
    client = await cluster.client("mallory")
    await client.ask(type="subscribe", channel="forged")
    await client.send({"type": "publish", "channel": "forged", "data": 1, "from": {"user_id": "root"}})
    got = await client.next_message()
    assert got["from"]["user_id"] == "mallory"
    await client.send(json.dumps({"from": {"user_id": "root"}, "text": "x"}))
    got = await client.next_message()
    assert got["from"]["user_id"] == "mallory"
    await client.close()
    await eventually(cluster.is_healthy)


async def test_secrets_and_deep_data_are_not_relayed(cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        sender, member = await clients_on(cluster, stack, 1, 2)
        await member.ask(type="subscribe", channel="clean")
        data = {"user": "ann", "Password": "x", "nested": [{"token": 1, "kept": 2}]}
        await sender.ask(type="publish", channel="clean", data=data)
        cleaned = {"user": "ann", "nested": [{"kept": 2}]}
        assert await member.next_message() == message(sender, cleaned, "clean")
        await sender.ask(type="direct", user_id=member.welcome["user_id"], data=data)
        assert await member.next_message() == message(sender, cleaned, "direct")
        await sender.send({"text": "to all", "api_key": "x"})
        assert await member.next_message() == message(sender, {"text": "to all"}, "broadcast")
        deep: object = 1
        for _ in range(33):
            deep = [deep]
        assert (await sender.ask(type="publish", channel="clean", data=deep))["code"] == "too_deep"
