from wsd.worker.broker.spool import Outgoing, Spool


def message(number: int, text: bytes = b"x") -> Outgoing:
    return Outgoing(number, "c", text)


def numbers(spool: Spool) -> list[int]:
    return [outgoing.number for outgoing in spool.first(100)]


def filled(count: int, max_messages: int = 100, max_bytes: int = 1000) -> Spool:
    spool = Spool(max_messages, max_bytes)
    for number in range(count):
        spool.add(message(number))
    return spool


def test_a_spool_keeps_its_order_and_all_that_is_not_removed() -> None:
    spool = filled(5)
    batch = spool.first(2)
    assert batch == [message(0), message(1)]
    assert len(spool) == 5
    spool.remove(batch)
    assert numbers(spool) == [2, 3, 4]
    assert spool.bytes == 3


def test_a_message_that_is_spooled_late_is_placed_by_its_number() -> None:
    spool = Spool(100, 1000)
    for number in (1, 5, 6, 3, 4, 2):
        spool.add(message(number))
    assert numbers(spool) == [1, 2, 3, 4, 5, 6]


def test_removing_a_batch_keeps_the_messages_before_it() -> None:
    spool = filled(0)
    for number in (2, 3, 4):
        spool.add(message(number))
    batch = spool.first(2)
    spool.add(message(1))
    spool.remove(batch)
    assert numbers(spool) == [1, 4]


def test_beyond_its_messages_the_oldest_go_and_are_counted() -> None:
    spool = filled(8, max_messages=5)
    assert numbers(spool) == [3, 4, 5, 6, 7]
    assert (len(spool), spool.dropped, spool.bytes) == (5, 3, 5)


def test_beyond_its_bytes_too() -> None:
    spool = Spool(100, 10)
    spool.add(message(1, b"1234"))
    spool.add(message(2, b"567890"))
    assert (len(spool), spool.dropped) == (2, 0)
    spool.add(message(3, b"x"))
    assert numbers(spool) == [2, 3]
    spool.add(message(4, b"y" * 11))
    assert (len(spool), spool.bytes, spool.dropped) == (0, 0, 4)


def test_a_spool_may_keep_nothing() -> None:
    spool = filled(3, max_messages=0)
    assert (len(spool), spool.dropped) == (0, 3)


def test_removing_a_batch_ignores_messages_that_were_dropped_meanwhile() -> None:
    spool = filled(3, max_messages=3)
    batch = spool.first(2)
    spool.add(message(3))
    spool.remove(batch)
    assert (numbers(spool), spool.bytes, spool.dropped) == ([2, 3], 2, 1)
