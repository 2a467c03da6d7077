"""Messages of channels in an application's own format: translated once, where they are written."""

import json
import math
from typing import Any

import msgspec
import pytest

from tests.support.outbox_socket import Socket, always, turn
from wsd.worker.application.formats import Encode, Format, data_format, format_of, hub_format, message_of
from wsd.worker.application.records import Gap, Message, Record
from wsd.worker.delivery import batch
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.delivery.translation import TranslatingWriter, Translator
from wsd.worker.wire import messages as wire
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio


def message(data: Any, offset: int = 0, channel: str = "c") -> batch.Message:
    """Return a message as channels send it, with a position if an offset is given."""
    payload: dict[str, Any] = {"type": "message", "channel": channel, "data": data}
    payload |= {"from": {"user_id": "ann", "username": "Ann", "worker_id": "w"}, "uid": "u"}
    if offset:
        payload |= {"offset": offset, "epoch": "e"}
    return batch.Message(json.dumps(payload).encode(), Position(offset, "e") if offset else None)


def translated(encode: Encode, item: batch.Message) -> tuple[int, bytes] | None:
    found = Format(encode)(item).item
    return (found.opcode, found.payload) if isinstance(found, batch.Message) else None


def own(outlet: Outlet, encode: Encode, name: str = "s") -> tuple[Socket, Translator]:
    """Return a socket of a client with a format."""
    socket, translator = Socket(outlet, name), Translator(format_of(encode))
    socket.outbox.held = True
    socket.outbox.write_through(lambda writer: TranslatingWriter(writer, translator))
    socket.outbox.release()
    return socket, translator


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("hi", b"hi"),
        ('\u00e4\n"', '\u00e4\n"'.encode()),
        ({"a": [1]}, b'{"a": [1]}'),
        (7, b"7"),
        (None, b"null"),
        ("", b""),
    ],
)
def test_by_default_the_data_alone_is_sent(data: Any, expected: bytes) -> None:
    assert translated(data_format, message(data)) == (1, expected)


def test_a_number_that_no_float_can_hold_is_infinite() -> None:
    payload = b'{"type":"message","channel":"c","data":{"n":[1e400,-1e400]}}'
    found: list[Record] = []
    translated(found.append, batch.Message(payload))
    assert found == [message_of(msgspec.Raw(payload))]
    assert message_of(msgspec.Raw(payload)).data == {"n": [math.inf, -math.inf]}


def test_the_default_is_what_its_function_says() -> None:
    for data in ("hi", {"a": 1}, None):
        assert data_format(Message(channel="c", data=data)) == (
            data if data == "hi" else json.dumps(data).replace(" ", "")
        )
    assert data_format(Gap("c", "trimmed", Position(1, "e"))) is None


def test_a_function_gets_records_and_returns_text_bytes_or_nothing() -> None:
    got: list[Record] = []

    def encode(record: Record) -> str | bytes | None:
        got.append(record)
        answers: dict[Any, str | bytes] = {"text": "t", "bytes": b"\xff"}
        return answers.get(record.data) if isinstance(record, Message) else None

    assert translated(encode, message("text", 7)) == (1, b"t")
    assert translated(encode, message("bytes")) == (2, b"\xff")
    assert translated(encode, message("nothing")) is None
    gap = wire.encode(wire.Gap("c", "trimmed", 9, "e"))
    assert translated(encode, batch.Message(gap)) is None
    changed = wire.PresenceChanged("c", [wire.Member("bob", "Bob", "n", "w")], [], 1, 0)
    assert translated(encode, batch.Message(wire.encode(changed))) is None
    position = wire.encode(wire.PositionNotice("c", 10, "e"))
    assert Format(encode)(batch.Message(position)) == batch.Translation(None, "c", Position(10, "e"))
    sender = wire.Sender("ann", "Ann", "w")
    assert got == [
        Message(channel="c", data="text", sender=sender, position=Position(7, "e"), uid="u"),
        Message(channel="c", data="bytes", sender=sender, uid="u"),
        Message(channel="c", data="nothing", sender=sender, uid="u"),
        Gap("c", "trimmed", Position(9, "e")),
        changed,
    ]


def test_the_format_of_the_hub_is_what_the_hub_sends() -> None:
    payload = message({"a": "\u00e4"}, 7).payload
    assert translated(hub_format, message({"a": "\u00e4"}, 7)) == (1, payload)
    records: list[Record] = []
    Format(records.append)(message({"a": "\u00e4"}, 7))
    text = hub_format(records[0])
    assert isinstance(text, str)
    assert json.loads(text) == json.loads(payload)


def test_a_text_that_is_no_message_stays_as_it_is() -> None:
    for text in (b"hi", b'{"a": 1}', b'{"type": "other"}'):
        assert translated(lambda record: "never", batch.Message(text)) == (1, text)


@pytest.mark.parametrize("wrong", [1, "\ud83d", ValueError("a bug")])
def test_a_function_that_fails_costs_its_clients_this_message_alone(wrong: Any) -> None:
    def encode(record: Record) -> str:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong  # type: ignore[no-any-return]

    assert Format(encode)(message(1, 7)) == batch.Translation(None, "c", Position(7, "e"))


async def test_all_clients_with_one_function_share_its_result() -> None:
    calls: list[Record] = []

    def encode(record: Record) -> str:
        calls.append(record)
        assert isinstance(record, Message)
        return json.dumps({"own": record.data})

    outlet = Outlet()
    fanout = Fanout(outlet)
    hub = Socket(outlet, "hub")
    members = [own(outlet, encode, str(number)) for number in range(3)]
    for outbox in (hub.outbox, *(socket.outbox for socket, _ in members)):
        fanout.join(outbox, "c")
    for number in (1, 2):
        fanout.send_to_members("c", always(message(number, number)))
    await turn()
    assert [socket.writes for socket, _ in members] == [[[{"own": 1}, {"own": 2}]]] * 3
    assert [translator.positions for _, translator in members] == [{"c": Position(2, "e")}] * 3
    assert [one["data"] for one in hub.got] == [1, 2]
    assert len(calls) == 2


async def test_what_an_application_sends_itself_stays_as_it_is_and_keeps_its_place() -> None:
    outlet = Outlet()
    fanout = Fanout(outlet)
    socket, _ = own(outlet, data_format)
    fanout.join(socket.outbox, "c")
    fanout.send_to_members("c", always(message(1)))
    socket.outbox.put(batch.OwnMessage(b'{"type": "message", "data": 2}'))
    fanout.send_to_members("c", always(message(3)))
    await turn()
    assert socket.got == [1, {"type": "message", "data": 2}, 3]


@pytest.mark.parametrize("policy", ["conflate", "drop_oldest", "close_and_resume"])
async def test_positions_are_those_of_what_was_written_to_a_slow_reader(policy: batch.SlowReaders) -> None:
    outlet = Outlet(max_buffer_bytes=700)

    def encode(record: Record) -> str:
        return json.dumps("gap" if isinstance(record, Gap) else record.data if isinstance(record, Message) else None)

    fanout = Fanout(outlet)
    socket, translator = own(outlet, encode)
    fanout.join(socket.outbox, "c")
    socket.full = True
    for number in range(1, 5 if policy == "close_and_resume" else 20):
        fanout.send_to_members("c", always(message(number, number)), policy)
        await turn()
    assert socket.got == [1]
    assert translator.positions == {"c": Position(1, "e")}, "what waits was not written"
    socket.reads()
    expected = {"conflate": [1, 19], "close_and_resume": [1, 2, 3, 4]}
    got = socket.got
    if policy == "drop_oldest":
        assert got[:2] == [1, "gap"]
        assert got[2:] == list(range(got[2], 20))
    else:
        assert got == expected[policy]
    assert translator.positions == {"c": Position(got[-1], "e")}


async def test_a_message_that_becomes_nothing_is_not_written_and_counts_as_reached() -> None:
    outlet = Outlet()
    fanout = Fanout(outlet)
    socket, translator = own(outlet, lambda record: None)
    fanout.join(socket.outbox, "c")
    fanout.send_to_members("c", always(message(1, 5)))
    await turn()
    assert (socket.writes, translator.positions) == ([], {"c": Position(5, "e")})


async def test_translated_messages_are_compressed() -> None:
    item = message("x" * 1000, 1)
    translation = Format(data_format)(item).item
    assert translation is not None
    assert len(translation.deflated(15)) < 100
