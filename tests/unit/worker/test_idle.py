"""Connections are closed when their clients send nothing, unless it was this process that did not read."""

import math

import pytest

from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.manager.idle import IdleWatch

IDLE = (4000, "nothing received for 10 s")


@pytest.mark.parametrize(
    ("received_at", "late", "closed"),
    [
        (90.0, 0.0, None),
        (89.9, 0.0, IDLE),
        (89.9, 1.0, IDLE),
        (89.9, 1.1, None),  # this process was stopped: nobody can say what clients sent meanwhile
        (math.inf, 0.0, None),  # nobody reads from this client yet
        (math.inf, 5.0, None),
    ],
)
def test_a_client_that_sends_nothing_is_closed(received_at: float, late: float, closed: tuple[int, str] | None) -> None:
    fanout = Fanout(Outlet())
    outbox = Outbox(Outlet())
    outbox.bind("s", "ann", "Ann")
    outbox.received_at = received_at
    fanout.add(outbox)
    IdleWatch(fanout, 10.0).look(100.0, late=late)
    assert outbox.closed == closed


def test_after_a_stall_every_client_has_the_whole_time_again() -> None:
    fanout = Fanout(Outlet())
    outbox = Outbox(Outlet())
    outbox.bind("s", "ann", "Ann")
    outbox.received_at = 50.0
    fanout.add(outbox)
    watch = IdleWatch(fanout, 10.0)
    watch.look(100.0, late=60.0)
    watch.look(110.0, late=0.0)
    assert outbox.closed is None
    watch.look(110.1, late=0.0)
    assert outbox.closed == IDLE
