"""Statistics of several workers as one: sums, and the largest users and channels."""

from wsd.worker.broker.message_broker import BrokerStatistics
from wsd.worker.manager.statistics import Counted, WorkerStatistics, merge, top


def worker(name: str, users: dict[str, int], channels: dict[str, int]) -> WorkerStatistics:
    return WorkerStatistics(
        worker_id=name,
        node_id="n",
        mode="distributed",
        connections=sum(users.values()),
        messages_in=1,
        messages_out=2,
        users=len(users),
        channels=len(channels),
        closes={},
        refusals={},
        repaired=0,
        losses={},
        broker=BrokerStatistics(),
        top_users=top(users.items(), 10),
        top_channels=top(channels.items(), 10),
    )


def test_the_largest_first_and_names_where_they_are_equal() -> None:
    sizes = {"b": 2, "a": 2, "c": 5, "d": 1}
    assert top(sizes.items(), 3) == [Counted("c", 5), Counted("a", 2), Counted("b", 2)]


def test_users_and_channels_of_all_workers_are_summed_and_paged() -> None:
    workers = [worker("w2", {"ann": 1, "bob": 2}, {"x": 1}), worker("w1", {"ann": 3}, {"x": 1, "y": 5})]
    page = merge(workers, complete=True, offset=0, limit=1)
    assert page.users == [Counted("ann", 4)]
    assert page.channels == [Counted("y", 5)]
    assert (page.connections, page.messages_in, page.messages_out) == (6, 2, 4)
    assert [w.worker_id for w in page.workers] == ["w1", "w2"]
    assert page.workers[0].top_users == []
    page = merge(workers, complete=False, offset=1, limit=5)
    assert page.users == [Counted("bob", 2)]
    assert page.channels == [Counted("x", 2)]
    assert not page.complete
