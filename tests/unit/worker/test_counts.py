"""The statistics of one worker are read from its parts when somebody asks."""

import pytest

from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.channels.channels import Channels
from wsd.worker.channels.options import ChannelRules
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.manager.counts import Counts, StatisticsSource
from wsd.worker.manager.statistics import Counted

pytestmark = pytest.mark.anyio


async def test_statistics_say_who_is_connected_and_what_was_counted() -> None:
    fanout, broker, counts = Fanout(Outlet()), InMemoryMessageBroker(), Counts()
    channels = Channels(broker, fanout, ChannelRules(), 1.0)
    source = StatisticsSource("w", "n", counts=counts, broker=broker, fanout=fanout, channels=channels)
    for session_id, user_id, rooms in (("1", "ann", "ab"), ("2", "ann", "a"), ("3", "bob", "")):
        outbox = Outbox(Outlet())
        outbox.bind(session_id, user_id, user_id)
        fanout.add(outbox)
        fanout.add_to_user(outbox)
        for room in rooms:
            fanout.join(outbox, room)
    counts.messages_in = 7
    counts.closes["goodbye"] += 1
    counts.refusals["name"] += 2
    found = source.statistics(1)
    assert (found.worker_id, found.node_id, found.mode) == ("w", "n", "memory")
    assert (found.connections, found.users, found.channels) == (3, 2, 2)
    assert (found.messages_in, found.messages_out) == (7, 0)
    assert found.closes == {"goodbye": 1}
    assert found.refusals == {"name": 2}
    assert (found.repaired, found.losses) == (0, {})
    assert found.top_users == [Counted("ann", 2)]
    assert found.top_channels == [Counted("a", 2)]
    unlisted = source.statistics()
    assert (unlisted.top_users, unlisted.top_channels) == ([], [])
