"""Redis freezes, dies, comes back, cuts connections: what the brokers of a node do meanwhile, and after.

Every test runs brokers against real servers; `near` is the node's own Valkey.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.support.brokers import Received, running_broker
from tests.support.hub_client import ask
from tests.support.ports import unused_port
from tests.support.proxy import Proxy
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from tests.support.worker import worker
from wsd.worker.broker import recovery
from wsd.worker.broker.circuit_breaker import BreakerPolicy, BreakerState
from wsd.worker.broker.history import Retention
from wsd.worker.broker.message_broker import Mode
from wsd.worker.broker.message_format import UNNUMBERED
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio

CALL_SECONDS = 3.0  # 2 s are promised; a machine that runs other tests, too, may stand still for a moment
RETURN_SECONDS = 4.0

Brokers = list[tuple[RedisMessageBroker, Received]]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path / "far", unused_port()) as running:
        yield running


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path / "near", unused_port()) as running:
        yield running


@asynccontextmanager
async def brokers(far: Valkey, near: Valkey | None, count: int = 2) -> AsyncIterator[Brokers]:
    """Run the brokers of one node, each subscribed to `c`."""
    async with AsyncExitStack() as stack:
        made: Brokers = []
        for number in range(count):
            broker, received = await stack.enter_async_context(
                running_broker(f"w{number}", far.url, near.url if near else "", workers=lambda: count)
            )
            await broker.subscribe("c")
            await eventually(lambda broker=broker: broker.health.mode is Mode.DISTRIBUTED)  # type: ignore[misc]
            made.append((broker, received))
        yield made


def numbers(received: Received) -> list[int]:
    return [int(payload) for _, payload in received.messages]


async def publish_until(broker: RedisMessageBroker, stop: asyncio.Event) -> int:
    """Publish numbers from 0 on, one after the other. Return how many there were."""
    number = 0
    while not stop.is_set():
        started = time.monotonic()
        await broker.publish("c", b"%d" % number)
        assert time.monotonic() - started < CALL_SECONDS
        number += 1
        await asyncio.sleep(0.002)
    return number


@pytest.mark.parametrize("fault", ["freeze", "kill"])
@pytest.mark.parametrize("with_fallback", [True, False])
async def test_an_outage_under_load_loses_and_doubles_nothing(
    far: Valkey, near: Valkey, fault: str, with_fallback: bool
) -> None:
    async with brokers(far, near if with_fallback else None, count=3) as made:
        stop = asyncio.Event()
        load = asyncio.create_task(publish_until(made[0][0], stop))
        await eventually(lambda: len(made[1][1].messages) > 20)
        if fault == "freeze":
            far.freeze()
        else:
            far.kill()
        away = Mode.FALLBACK if with_fallback else Mode.LOCAL
        await eventually(lambda: made[0][0].health.mode is away)
        reached = made[1 if with_fallback else 0][1].messages
        seen = len(reached)
        await eventually(lambda: len(reached) > seen + 50)  # it goes on without Redis
        if fault == "freeze":
            far.thaw()
        else:
            far.start()
        await eventually(lambda: made[0][0].health.mode is Mode.DISTRIBUTED and not made[0][0].statistics.spooled)
        stop.set()
        count = await load
        for _, received in made:
            await eventually(lambda received=received: len(received.messages) >= count)  # type: ignore[misc]
            assert sorted(numbers(received)) == list(range(count))
            assert numbers(received) == list(range(count)), "and the order is kept"


@pytest.mark.parametrize("with_fallback", [True, False])
async def test_messages_that_redis_accepted_but_did_not_deliver_are_sent_again(
    far: Valkey, near: Valkey, with_fallback: bool
) -> None:
    async with (
        Proxy(far.url) as proxy,
        running_broker("sender", far.url, near.url if with_fallback else "", workers=lambda: 2) as (sender, at_sender),
        running_broker("other", proxy.url, near.url if with_fallback else "", workers=lambda: 2) as (other, at_other),
    ):
        for broker in (sender, other):
            await broker.subscribe("c")
        await eventually(lambda: sender.health.mode is other.health.mode is Mode.DISTRIBUTED)
        proxy.deaf_to = b"own-other"
        assert await sender.publish("c", b"0") is True
        assert await sender.publish("c", b"1") is True
        far.kill()
        await eventually(lambda: sender.health.mode is not Mode.DISTRIBUTED)
        assert await sender.publish("c", b"2") is False
        if with_fallback:
            await eventually(lambda: numbers(at_other) == [0, 1, 2])
        proxy.deaf_to = None
        far.start()
        await eventually(lambda: numbers(at_other) == [0, 1, 2])
        await eventually(lambda: not sender.statistics.spooled)
        assert numbers(at_sender) == numbers(at_other) == [0, 1, 2]


async def test_a_message_that_redis_stored_but_did_not_deliver_reaches_the_node_with_its_position(
    far: Valkey, near: Valkey
) -> None:
    keep = Retention(size=10, ttl=60)
    async with (
        Proxy(far.url) as proxy,
        running_broker("sender", far.url, near.url) as (sender, _),
        running_broker("other", proxy.url, near.url) as (other, received),
    ):
        await other.subscribe("c")
        await eventually(lambda: sender.health.mode is other.health.mode is Mode.DISTRIBUTED)
        proxy.deaf_to = b"own-other"
        stored = await sender.append("c", b"0", keep)
        assert stored is not None
        far.kill()
        await eventually(lambda: sender.health.mode is Mode.FALLBACK)
        assert await sender.append("c", b"1", keep) is None
        await eventually(lambda: len(received.entries) == 2)
        assert [(entry.payload, entry.position) for entry in received.entries] == [
            (b"0", stored.position),
            (b"1", None),
        ]


async def test_brokers_are_distributed_again_soon_after_redis_returned(far: Valkey) -> None:
    async with brokers(far, None) as made:
        for _ in range(3):
            far.kill()
            await eventually(lambda: made[0][0].health.mode is Mode.LOCAL)
            far.start()
            back = time.monotonic()
            await eventually(lambda: all(broker.health.mode is Mode.DISTRIBUTED for broker, _ in made))
            assert time.monotonic() - back < RETURN_SECONDS
        for _ in range(3):
            far.freeze()
            await made[0][0].publish("c", b"0")
            await eventually(lambda: made[0][0].health.mode is Mode.LOCAL)
            far.thaw()
            back = time.monotonic()
            await eventually(lambda: all(broker.health.mode is Mode.DISTRIBUTED for broker, _ in made))
            assert time.monotonic() - back < RETURN_SECONDS


async def test_spooled_messages_wait_for_members_that_an_empty_redis_does_not_know(far: Valkey) -> None:
    known = 2
    async with (
        Proxy(far.url) as proxy,
        running_broker("early", far.url, workers=lambda: known) as (early, _),
        running_broker("late", proxy.url, workers=lambda: known) as (late, received),
    ):
        await late.subscribe("c")
        await eventually(lambda: early.health.mode is late.health.mode is Mode.DISTRIBUTED)
        far.kill()
        await eventually(lambda: early.health.mode is Mode.LOCAL)
        await early.publish("c", b"1")
        known = 1  # the first worker that is back counts itself
        proxy.delay = 0.5
        far.start()
        await eventually(lambda: not early.statistics.spooled)
        await eventually(lambda: numbers(received) == [1])


async def test_stored_messages_wait_for_subscribers_if_all_workers_began_without_redis(far: Valkey) -> None:
    far.kill()
    async with (
        Proxy(far.url) as proxy,
        running_broker("early", far.url) as (early, _),
        running_broker("late", proxy.url) as (late, received),
    ):
        await late.subscribe("c")
        assert await early.append("c", b"1", Retention(size=10, ttl=60)) is None
        proxy.delay = 0.5
        far.start()
        await eventually(lambda: not early.statistics.spooled)
        await eventually(lambda: [entry.payload for entry in received.entries] == [b"1"])


async def test_a_full_spool_drops_and_counts_its_oldest_messages(far: Valkey) -> None:
    async with brokers(far, None, count=1) as made:
        listener, received = made[0]
        async with running_broker("small", far.url, spool_messages=5) as (small, _):
            await eventually(lambda: small.health.mode is Mode.DISTRIBUTED)
            far.kill()
            await eventually(lambda: small.health.mode is Mode.LOCAL)
            for number in range(8):
                assert await small.publish("c", b"%d" % number) is False
            assert (small.statistics.spooled, small.statistics.dropped) == (5, 3)
            far.start()
            await eventually(lambda: small.statistics.spooled == 0)
            await eventually(lambda: listener.health.mode is Mode.DISTRIBUTED)
            await eventually(lambda: not small.statistics.spooled)
        assert numbers(received) in ([3, 4, 5, 6, 7], [])  # a worker that comes back after it was sent receives nothing


async def test_messages_that_failed_before_the_breaker_opened_are_spooled(far: Valkey) -> None:
    async with brokers(far, None, count=1) as made:
        _, received = made[0]
        policy = BreakerPolicy(failures=1000, pause=0.2)
        async with running_broker("patient", far.url, policy=policy) as (patient, _):
            await eventually(lambda: patient.health.mode is Mode.DISTRIBUTED)
            far.freeze()
            assert await patient.publish("c", b"1") is False
            assert patient.health.breaker is BreakerState.CLOSED
            far.thaw()
            await eventually(lambda: numbers(received) == [1])
            await eventually(lambda: patient.statistics.spooled == 0)
            assert await patient.publish("c", b"2") is True
            await eventually(lambda: numbers(received) == [1, 2])


async def test_calls_are_quick_while_redis_is_known_to_be_away(far: Valkey, near: Valkey) -> None:
    async with brokers(far, near, count=1) as made:
        broker, _ = made[0]
        far.freeze()
        near.freeze()
        started = time.monotonic()
        await broker.publish("c", b"0")  # finds out, twice
        assert time.monotonic() - started < CALL_SECONDS
        await eventually(lambda: broker.health.breaker is not BreakerState.CLOSED)
        started = time.monotonic()
        await broker.subscribe("d")
        assert time.monotonic() - started < 0.5
        far.thaw()
        near.thaw()


async def test_killed_listening_connections_come_back_and_none_is_left_over(far: Valkey) -> None:
    async with brokers(far, None) as made:
        admin = open_redis(far.url, connect_timeout=1, timeout=4)
        try:
            for round_ in range(1, 31):
                before = [broker.statistics.reconnects for broker, _ in made]
                await admin.client_kill_filter(_type="pubsub")
                await eventually(
                    lambda before=before: all(  # type: ignore[misc]
                        broker.statistics.reconnects > count and broker.health.mode is Mode.DISTRIBUTED
                        for (broker, _), count in zip(made, before, strict=True)
                    ),
                    f"round {round_}",
                )
            await made[0][0].publish("c", b"1")
            for _, received in made:
                await eventually(lambda received=received: numbers(received) == [1])  # type: ignore[misc]
            clients = await admin.client_list()
            assert len([client for client in clients if "P" in client["flags"]]) == 2
            assert len(clients) <= 1 + 2 * 3
        finally:
            await admin.aclose()


async def test_a_subscriber_that_redis_cut_off_reconnects_and_receives_again(tmp_path: Path) -> None:
    limit = ("--client-output-buffer-limit", "pubsub 64kb 64kb 0")
    with server(tmp_path / "small", unused_port(), *limit) as far:
        async with brokers(far, None) as made:
            before = made[1][0].statistics.reconnects
            # Published in one go, more than a listener's buffer takes: Redis cuts all of them off.
            admin = open_redis(far.url, connect_timeout=1, timeout=4)
            flood = "for i = 1, 100 do redis.call('PUBLISH', 'c', ARGV[1]) end"
            await cast(Awaitable[None], admin.eval(flood, 0, UNNUMBERED + b"1" * 8000))
            await admin.aclose()
            await eventually(lambda: made[1][0].statistics.reconnects > before)
            await eventually(lambda: all(broker.health.mode is Mode.DISTRIBUTED for broker, _ in made))
            await made[0][0].publish("c", b"2")
            for _, received in made:
                await eventually(lambda received=received: received.messages[-1:] == [("c", b"2")])  # type: ignore[misc]


async def test_a_quiet_connection_is_not_a_broken_one(far: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "QUIET_SECONDS", 0.1)
    async with brokers(far, None, count=1) as made:
        broker, _ = made[0]
        received_at = broker.primary.subscriber.received_at
        await eventually(lambda: broker.primary.subscriber.received_at > received_at + 1.0)  # ten probes were received
        assert broker.statistics.reconnects == 1
        assert broker.statistics.hearing_failures == 0


async def test_a_deaf_worker_notices_tries_again_and_says_so(far: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "QUIET_SECONDS", 0.2)
    async with Proxy(far.url) as proxy, brokers(far, None, count=1) as made:
        healthy, received = made[0]
        async with running_broker("deaf", proxy.url) as (broker, received_by_deaf):
            await broker.subscribe("c")
            await eventually(lambda: broker.health.mode is Mode.DISTRIBUTED)
            proxy.deaf_to = b"own-deaf"
            await eventually(lambda: broker.health.mode is Mode.LOCAL)
            assert broker.statistics.hearing_failures >= 1
            await broker.publish("c", b"1")  # its own members receive it all the same
            assert numbers(received_by_deaf) == [1]
            await eventually(lambda: broker.health.deaf)
            assert broker.statistics.reconnects > 2
            assert not healthy.health.deaf
            proxy.deaf_to = None
            await eventually(lambda: broker.health.mode is Mode.DISTRIBUTED)
            assert not broker.health.deaf
            await eventually(lambda: numbers(received) == [1])
            assert numbers(received_by_deaf) == [1]


async def test_a_message_that_redis_rejects_delays_no_others(far: Valkey) -> None:
    admin = open_redis(far.url, connect_timeout=1, timeout=4)
    try:
        await admin.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "limited", "on", "nopass", "+@all", "~*", "resetchannels", "&c", "&own-*", "&ws_*"
        )
        async with brokers(far, None, count=1) as made:
            url = far.url.replace("//", "//limited:x@")
            async with running_broker("limited", url) as (broker, _):
                await eventually(lambda: broker.health.mode is Mode.DISTRIBUTED)
                assert await broker.publish("forbidden", b"0") is False
                assert await broker.publish("c", b"1") is True
                assert broker.statistics.dropped == 1
            await eventually(lambda: numbers(made[0][1]) == [1])
    finally:
        await admin.aclose()


@pytest.mark.parametrize(
    "request_",
    [
        {"type": "subscribe", "channel": "other"},
        {"type": "unsubscribe", "channel": "room"},
        {"type": "publish", "channel": "room", "data": 1},
        {"type": "broadcast", "data": 1},
        {"type": "direct", "user_id": "a", "data": 1},
        {"type": "presence", "channel": "room"},
    ],
    ids=lambda request_: request_["type"],
)
async def test_no_request_waits_long_for_a_redis_that_just_froze(
    tmp_path: Path, far: Valkey, near: Valkey, request_: dict[str, object]
) -> None:
    with worker(tmp_path, redis_url=far.url, fallback_url=near.url) as serving:
        connection = await serving.connect()
        await ask(connection, type="subscribe", channel="room")
        far.freeze()
        near.freeze()
        started = time.monotonic()
        answer = await ask(connection, **request_)
        assert answer["type"] in ("ack", "presence")
        assert time.monotonic() - started < CALL_SECONDS
        started = time.monotonic()
        newcomer = await serving.connect("b")
        assert time.monotonic() - started < CALL_SECONDS
        far.thaw()
        near.thaw()
        await newcomer.close()
        await connection.close()
