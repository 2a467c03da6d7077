from wsd.worker.spool import Spool


def filled(count: int, max_messages: int = 100, max_bytes: int = 1000) -> Spool:
    spool = Spool(max_messages, max_bytes)
    for number in range(count):
        spool.append("c", b"%d" % number)
    return spool


def test_it_keeps_the_order_and_what_is_not_taken_out() -> None:
    spool = filled(5)
    assert spool.first(2) == [("c", b"0"), ("c", b"1")]
    assert len(spool) == 5
    spool.pop(2)
    assert spool.first(10) == [("c", b"2"), ("c", b"3"), ("c", b"4")]
    assert spool.bytes == 3


def test_beyond_its_messages_the_oldest_go_and_are_counted() -> None:
    spool = filled(8, max_messages=5)
    assert spool.first(10) == [("c", b"%d" % number) for number in range(3, 8)]
    assert (len(spool), spool.dropped, spool.bytes) == (5, 3, 5)


def test_beyond_its_bytes_too() -> None:
    spool = Spool(100, 10)
    spool.append("a", b"1234")
    spool.append("b", b"567890")
    assert (len(spool), spool.dropped) == (2, 0)
    spool.append("c", b"x")
    assert spool.first(10) == [("b", b"567890"), ("c", b"x")]
    spool.append("d", b"y" * 11)
    assert (len(spool), spool.bytes, spool.dropped) == (0, 0, 4)


def test_none_may_be_kept_at_all() -> None:
    spool = filled(3, max_messages=0)
    assert (len(spool), spool.dropped) == (0, 3)


def test_popping_more_than_there_is() -> None:
    spool = filled(2)
    spool.pop(5)
    assert (len(spool), spool.bytes, spool.dropped) == (0, 0, 0)
