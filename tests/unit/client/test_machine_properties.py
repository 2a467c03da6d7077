"""A client keeps its word in any world: calls are settled once, messages are in order, and nothing is sent in vain.

Each run makes up the same stories: others are for whoever changes the machine, without `derandomize`.
"""

import hypothesis.strategies as st
from hypothesis import given, settings

from tests.support.client_world import OWN, Message, World, try_to
from wsd.client.machine import Machine
from wsd.client.settings import Settings

CHANNELS = ("a", "b")
CLOSE_CODES = (1000, 1001, 1008, 1011, 1012, 1013, 4000, 4401, 4408, 4429, 4500)

LIMITS: Message = {"messages_per_second": 20, "message_burst": 40, "bytes_per_second": 20_000, "byte_burst": 100_000}


def act(world: World, name: str) -> None:
    """Let something happen in the world."""
    dice, machine = world.random, world.machine
    channel = dice.choice(CHANNELS)
    timeout = dice.choice((None, None, 0.01, 1.0, 60.0))
    match name:
        case "publish":
            for _ in range(dice.choice((1, 1, 3, 30))):
                fields = {"channel": channel, "data": "x" * dice.choice((1, 100, 3000))}
                try_to(lambda fields=fields: world.call("publish", fields, timeout))  # type: ignore[misc]
        case "broadcast":
            try_to(lambda: world.call("broadcast", {"data": 1}, timeout))
        case "history" | "presence":
            try_to(lambda: world.call(name, {"channel": channel}, timeout))
        case "subscribe":
            try_to(lambda: world.subscribe(channel, dice.choice((0, 0, 3)), timeout))
        case "unsubscribe":
            try_to(lambda: world.unsubscribe(channel, timeout))
        case "another publishes":
            for _ in range(dice.randint(1, 5)):
                world.hub.publish(dice.choice((*CHANNELS, "broadcast")), data="another")
        case "put in":
            world.hub.put_in(channel)
        case "take out":
            world.hub.take_out(channel)
        case "mark read":
            machine.mark_read(world.now, channel)
            world.do("wake")
        case "cancel":
            world.cancel()
        case "discard":
            world.do("discard_waiting")
        case "reconnect" | "wake":
            world.do(name)
        case "wait":
            world.run(dice.choice((0.01, 0.3, 3, 40)))
        case "sleep":
            world.sleep(dice.choice((1, 3, 20, 1000)))
        case "cut":
            world.cut(silently=dice.random() < 0.3)
        case "close":
            world.close_by_hub(dice.choice(CLOSE_CODES))
        case "the session ends":
            world.hub.sessions = {
                token: session for token, session in world.hub.sessions.items() if session.connection is not None
            }
        case "slow":
            world.slowest = dice.choice((0.01, 0.2, 4))
        case "handshakes fail":
            world.refuses_handshakes, world.loses_tokens = dice.choice(((0, 0), (0.5, 0), (0, 0.5), (1, 0)))
        case "redis goes":
            world.hub.is_local = True
        case "redis comes":
            world.hub.store_later()
        case "refusals":
            code = dice.choice(("not_stored", "unavailable", "channel_full", "internal_error"))
            world.hub.refuses[code] = dice.choice((0, 0.5, 1))
    world.run(dice.choice((0, 0, 0.05, 0.5)))


CALM = (
    *("publish", "broadcast", "history", "subscribe", "unsubscribe", "another publishes", "mark read", "wait"),
    *("reconnect", "wake", "sleep", "cut", "close", "the session ends", "slow", "handshakes fail"),
    *("redis goes", "redis comes"),
)
"""What may happen while the hub refuses nothing."""

ANYTHING = (*CALM, "presence", "cancel", "discard", "refusals")


def scenario(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), max_size=40)


seeds = st.integers(0, 2**32)


def sizes(machine: Machine) -> dict[str, int]:
    """Return how much a machine remembers, without the uids of the latest messages, which are limited."""
    parts = (machine._conversation, machine._conversation.requests, machine._conversation.channels)
    return {
        f"{type(part).__name__}.{name}": len(value)
        for part in parts
        for name, value in vars(part).items()
        if hasattr(value, "__len__") and not isinstance(value, str) and name not in ("_uids", "requests")
    }


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seeds, scenario(ANYTHING))
def test_calls_are_settled_once_and_membership_is_what_the_application_said(seed: int, names: list[str]) -> None:
    world = World(seed, LIMITS)
    world.run(1)
    before = sizes(world.machine)
    for name in names:
        act(world, name)
    world.settle()
    assert world.machine.state.name == "open"
    assert world.calls == {}, "all calls are settled once the world is good"
    assert world.machine.waiting == (0, 0)
    assert len(set(world.hub.stored)) == len(world.hub.stored), "each message is stored once"
    check_membership(world)
    for channel in CHANNELS:
        world.unsubscribe(channel)
    world.run(60)
    assert sizes(world.machine) == before, "nothing is remembered of what is over"


MEMBERSHIP = ("subscribe", "subscribe", "unsubscribe", "cancel", "discard", "another publishes", "wait", "cut", "close")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seeds, scenario((*MEMBERSHIP, "reconnect", "the session ends", "slow", "refusals")))
def test_membership_is_what_the_application_said_last(seed: int, names: list[str]) -> None:
    world = World(seed)
    for name in names:
        act(world, name)
    world.settle()
    check_membership(world)


def check_membership(world: World) -> None:
    """Check that the client is in its channels and in no other, and hears all of them."""
    connected = [session for session in world.hub.sessions.values() if session.connection is not None]
    assert [sorted(session.channels) for session in connected] == [[one for one in CHANNELS if world.is_in(one)]]
    for channel in ("broadcast", *CHANNELS):
        world.hub.publish(channel, data="the last one")
    world.run(5)
    for channel in ("broadcast", *CHANNELS):
        heard = world.reached.get(channel) == world.hub.channels[channel].offset
        assert heard == (channel in OWN or world.is_in(channel)), f"all of {channel} has come, if the client is in it"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seeds, scenario((*MEMBERSHIP, "put in", "take out", "reconnect", "the session ends", "slow")))
def test_a_client_is_where_the_hub_has_it_and_misses_nothing(seed: int, names: list[str]) -> None:
    world = World(seed)
    world.hub.closed = {"b"}
    world.run(1)
    for name in names:
        act(world, name)
    world.settle()
    assert world.gaps == []
    check_membership_at_the_hub(world)
    for channel in CHANNELS:
        world.hub.publish(channel, data="the last one")
    world.run(5)
    for channel in channels_of(world):
        assert world.reached[channel] == world.hub.channels[channel].offset
    for channel in CHANNELS:
        world.hub.take_out(channel)
    for _ in range(2):
        world.run(5)
        check_membership_at_the_hub(world)
        assert channels_of(world) == set(), "a client that was taken out does not come back"
        world.do("reconnect")


def channels_of(world: World) -> set[str]:
    """Return the channels that the session of the client has at the hub."""
    (session,) = [each for each in world.hub.sessions.values() if each.connection is not None]
    return session.channels


def check_membership_at_the_hub(world: World) -> None:
    """Check that the client knows in which channels the hub has it."""
    memberships = world.machine._conversation.channels.memberships
    assert {channel for channel, each in memberships.items() if each.inside} == channels_of(world)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seeds, scenario(CALM))
def test_messages_are_stored_in_the_order_of_the_calls(seed: int, names: list[str]) -> None:
    world = World(seed)
    for name in names:
        act(world, name)
    world.settle()
    assert world.hub.stored == sorted(world.hub.stored)
    assert world.gaps == [], "a hub that keeps everything has no gaps"


@st.composite
def limits(draw: st.DrawFn) -> Message:
    burst = draw(st.integers(2, 400))
    byte_burst = draw(st.integers(20_000, 2_000_000))
    return {
        "messages_per_second": draw(st.floats(0.5, 300)),
        "message_burst": burst,
        "bytes_per_second": draw(st.floats(500, 300_000)),
        "byte_burst": byte_burst,
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seeds, limits(), st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3000), st.floats(0, 5)), max_size=15))
def test_the_hub_never_refuses_a_client_for_its_rate(
    seed: int, given_limits: Message, bursts: list[tuple[int, int, float]]
) -> None:
    world = World(seed, given_limits, Settings(request_timeout=None))
    for messages, size, pause in bursts:
        world.slowest = world.random.choice((0.0, 0.1, 5.0))
        for _ in range(messages):
            world.call("publish", {"channel": f"room-{world.random.randrange(40)}", "data": "x" * size})
        world.run(pause)
        if world.random.random() < 0.1:
            world.do("reconnect")
    world.run(100)
    assert world.hub.refused_by_rate == 0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seeds, st.lists(st.sampled_from(("publish", "subscribe", "history", "cancel", "discard", "wait")), max_size=60))
def test_a_client_without_a_connection_remembers_only_what_waits(seed: int, names: list[str]) -> None:
    world = World(seed, LIMITS, Settings(max_waiting=50))
    world.refuses_handshakes = 1
    for name in names * 5:
        act(world, name)
    count, _ = world.machine.waiting
    assert count == len(world.calls) <= 50
    assert len(world.machine._conversation.requests._to_send) <= 2 * count + 200
