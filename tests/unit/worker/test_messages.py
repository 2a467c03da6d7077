"""Messages of clients: valid ones are decoded, all others are refused with a code."""

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import check_channel


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"broadcast","data":{"a":1}}', wire.Broadcast(msgspec.Raw(b'{"a":1}'))),
        ('{"type":"broadcast","data":null,"id":7}', wire.Broadcast(msgspec.Raw(b"null"), 7)),
        ('{"type":"broadcast","data":[1,2],"id":"x","more":1}', wire.Broadcast(msgspec.Raw(b"[1,2]"), "x")),
        ('{"text":"hi"}', wire.Broadcast(msgspec.Raw(b'{"text":"hi"}'))),
        ("{}", wire.Broadcast(msgspec.Raw(b"{}"))),
        ('{"type":"subscribe","channel":"c"}', wire.Subscribe("c")),
        ('{"type":"unsubscribe","channel":"c","id":1}', wire.Unsubscribe("c", 1)),
        ('{"type":"publish","channel":"c","data":1}', wire.Publish("c", msgspec.Raw(b"1"))),
        ('{"type":"direct","user_id":"u","data":1}', wire.Direct("u", msgspec.Raw(b"1"))),
        ('{"type":"ping"}', wire.Ping()),
        ('{"type":"ping","id":[1]}', wire.Ping([1])),
        (b'{"type":"ping"}', wire.Ping()),
    ],
)
def test_a_valid_request_is_decoded(text: str | bytes, expected: wire.Request) -> None:
    assert wire.decode(text) == expected


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        ("", "invalid_json", None),
        ("nonsense", "invalid_json", None),
        ("[]", "invalid_json", None),
        ("1", "invalid_json", None),
        ("null", "invalid_json", None),
        ('"text"', "invalid_json", None),
        ('{"a":1', "invalid_json", None),
        ('{"a":1} x', "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b'{"a":"\xff"}', "invalid_json", None),
        ("[" * 60_000, "invalid_json", None),
        ('{"a":' * 20_000, "invalid_json", None),
        ('{"type":"no such","id":4}', "unknown_type", 4),
        ('{"type":7,"id":4}', "unknown_type", 4),
        ('{"type":null}', "unknown_type", None),
        ('{"type":{"a":1}}', "unknown_type", None),
        ('{"type":"broadcast","id":4}', "invalid_request", 4),
        ('{"type":"subscribe","id":4}', "invalid_request", 4),
        ('{"type":"subscribe","channel":7,"id":4}', "invalid_request", 4),
        ('{"type":"publish","channel":"c","id":4}', "invalid_request", 4),
        # An id comes back: it must be one that can be encoded, and short.
        ('{"type":"broadcast","data":1,"id":' + "[" * 500 + "]" * 500 + "}", "invalid_request", None),
        ('{"type":"ping","id":' + '{"a":' * 200 + "1" + "}" * 200 + "}", "invalid_request", None),
        ('{"type":"ping","id":' + "[" * 4000, "invalid_json", None),
        ('{"type":"ping","id":"' + "x" * 300 + '"}', "invalid_request", None),
        ('{"type":"ping","id":' + "9" * 5000 + "}", "invalid_request", None),
        ('{"type":"ping","id":1e400}', "invalid_request", None),
        ('{"type":"ping","id":NaN}', "invalid_json", None),
        ('{"type":"ping","id":"\\ud800 and more"}', "invalid_json", None),
        ('{"type":"ping","id":1,"id":' + "[" * 500 + "]" * 500 + "}", "invalid_request", None),
        ('{"type":"no such","id":' + "[" * 900 + "]" * 900 + "}", "invalid_request", None),
        ('{"type":' + "[" * 900 + "]" * 900 + ',"id":4}', "unknown_type", 4),
        ('{"type":"resume","since":{"c":{"offset":1,"epoch":"' + "x" * 65 + '"}}}', "invalid_request", None),
    ],
)
def test_an_invalid_request_is_refused_with_its_code(text: str | bytes, code: str, request_id: object) -> None:
    with pytest.raises(wire.WireError) as refused:
        wire.decode(text)
    assert (refused.value.code, refused.value.request_id) == (code, request_id)
    assert len(str(refused.value)) < 300


def test_an_answer_fits_the_wire() -> None:
    sender = wire.Sender("1", "Ann", "worker-1-aaaa")
    message = wire.Message(channel="chat", data=msgspec.Raw(b'{"a":1}'), sender=sender)
    assert json.loads(wire.encode(message)) == {
        "type": "message",
        "channel": "chat",
        "data": {"a": 1},
        "from": {"user_id": "1", "username": "Ann", "worker_id": "worker-1-aaaa"},
    }
    assert json.loads(wire.encode(wire.Error("invalid_json", "why"))) == {
        "type": "error",
        "code": "invalid_json",
        "message": "why",
    }
    assert wire.encode(wire.Pong()) == b'{"type":"pong"}'


@pytest.mark.parametrize("channel", ["a", "chat:room-1", "a.b/c@d#e_f", "x" * 255])
def test_channel_names_that_are_fine(channel: str) -> None:
    check_channel(channel)


@pytest.mark.parametrize("channel", ["", "x" * 256, "a b", "a\n", "ü", "{a}", "a*", "broadcast"])
def test_channel_names_that_are_refused(channel: str) -> None:
    with pytest.raises(wire.RequestError) as refused:
        check_channel(channel)
    assert refused.value.code == "invalid_channel"


@pytest.mark.parametrize("request_id", [0, -1, 1.5, 2**63, "x" * 250, True, [1], {"a": {"b": []}}, "\u202e"])
def test_an_id_comes_back_as_it_is(request_id: object) -> None:
    request = wire.decode(json.dumps({"type": "ping", "id": request_id}, ensure_ascii=False))
    assert json.loads(wire.encode(wire.Pong(request.id)))["id"] == request_id


@pytest.mark.parametrize("kind", ["x" * 60_000, "\\u0000" * 5000, "'" * 5000])
def test_an_error_is_short_whatever_it_is_about(kind: str) -> None:
    with pytest.raises(wire.WireError) as refused:
        wire.decode(f'{{"type":"{kind}"}}')
    assert len(str(refused.value)) < 400


REQUESTS_WITH_A_NUMBER = [
    '{"type":"subscribe","channel":"c","since":{"offset":%s,"epoch":"e"}}',
    '{"type":"resume","since":{"c":{"offset":%s,"epoch":"e"}}}',
    '{"type":"ping","positions":{"c":{"offset":%s,"epoch":"e"}}}',
    '{"type":"delivered","channel":"c","user_id":"u","offset":%s,"epoch":"e"}',
    '{"type":"history","channel":"c","since":%s}',
    '{"type":"history","channel":"c","limit":%s}',
]


@pytest.mark.parametrize("request_text", REQUESTS_WITH_A_NUMBER)
@pytest.mark.parametrize(
    "number", [2**53, 2**63 - 1, 2**63, 2**64, 10**30, -1, -(2**63), "1e300", "1e3", "1.0", "true", '"1"', "null"]
)
def test_no_number_is_beyond_what_redis_takes(request_text: str, number: object) -> None:
    with pytest.raises(wire.WireError) as refused:
        wire.decode(request_text % number)
    assert refused.value.code == "invalid_request"


def test_the_greatest_offset_is_understood() -> None:
    for text in REQUESTS_WITH_A_NUMBER[:-1]:
        wire.decode(text % (2**53 - 1))


@pytest.mark.parametrize("epoch", ["a b", "}", "a:b", "a\\n", "\\u0000", "\\ud800", "é", "x" * 65, "x" * 60_000])
def test_an_epoch_is_a_short_word(epoch: str) -> None:
    for text in REQUESTS_WITH_A_NUMBER[:4]:
        with pytest.raises(wire.WireError):
            wire.decode((text % 1).replace('"e"', f'"{epoch}"'))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"ping","id":7}', 7),
        ('{"id":"x","type":"no such"}', "x"),
        (b'{"type":"publish","id":[1,{"a":null}]}', [1, {"a": None}]),
        ('{"type":"ping"}', None),
        ('{"id":7', None),
        ("[7]", None),
        ("", None),
        (b"", None),
        (b'{"id":"\xff"}', None),
        (b'{"id":1,"data":"\xff"}', None),
        ('{"id":1e400}', None),
        ('{"id":"\\ud800"}', None),
        ('{"id":' + "[" * 900 + "]" * 900 + "}", None),
        ('{"id":' + "[" * 60_000, None),
        ('{"id":"' + "x" * 300 + '"}', None),
    ],
)
def test_the_id_of_a_request_that_is_refused_unread(text: str | bytes, expected: object) -> None:
    assert wire.request_id(text) == expected


def test_every_error_code_is_documented() -> None:
    table = (Path(__file__).parents[3] / "docs/protocol.md").read_text("utf-8").split("## Errors")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert documented == set(get_args(wire.ErrorCode)) - {"too_big"}  # which only the HTTP API answers
