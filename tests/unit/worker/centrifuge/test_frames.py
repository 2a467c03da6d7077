"""Frames of the Centrifuge client protocol, compared with the code that Google's compiler makes of its definition."""

import json
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest
from centrifuge.protocol import client_pb2
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from wsd.worker.centrifuge import json_frames, protobuf_frames
from wsd.worker.centrifuge.messages import Command, Publication, PublishResult, Push, Reply, SendRequest
from wsd.worker.centrifuge.protobuf import decode_varint, encode_varint
from wsd.worker.centrifuge.protobuf_frames import FIELD_NUMBERS

NEWER = {"type"}
"""Fields that their package does not know yet."""

ALWAYS_THERE = {"code", "message", "num_clients", "num_users", "reason"}

ONE_OF_MANY = {Command, Push, Reply}
"""Records that have their first field and one of the others."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON_TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value, ensure_ascii=False).encode())


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.none() | _values(next(part for part in arguments if part is not type(None)))
    if origin is list:
        return st.lists(_values(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(TEXTS, _values(arguments[1]), max_size=2)
    if hasattr(kind, "__metadata__"):
        return _values(arguments[0])
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _records(kind)
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 2**31 - 1),
        str: st.text("abcXYZ09_-", max_size=8),
        Raw: JSON_TEXTS.map(Raw),
    }
    return strategies[kind]


def _records(kind: type[Struct]) -> st.SearchStrategy[Any]:
    fields = {field.name: _values(field.type) for field in msgspec.structs.fields(kind) if field.name not in NEWER}
    if kind in ONE_OF_MANY:
        label = next(iter(fields))
        bodies = [name for name in fields if name != label]
        return st.one_of([st.builds(kind, **{label: fields[label], name: fields[name]}) for name in bodies])
    return st.builds(kind, **fields)


def _as_json(record: Struct) -> Any:
    return msgspec.json.decode(msgspec.json.encode(record))


def _theirs(message: Any) -> Any:
    """Return a message of their classes in the form of our JSON: with bytes as the JSON that they hold."""
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values[field.name] = {key: _theirs_or_plain(item) for key, item in value.items()}
        elif field.is_repeated:
            values[field.name] = [_theirs_or_plain(item) for item in value]
        else:
            values[field.name] = _theirs_or_plain(value)
    return values


def _theirs_or_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return json.loads(value)
    return _theirs(value) if hasattr(value, "ListFields") else value


def _read_by_theirs(frame: bytes, make: Callable[[], Any]) -> list[Any]:
    found = []
    at = 0
    while at < len(frame):
        length, at = decode_varint(frame, at)
        message = make()
        message.ParseFromString(frame[at : at + length])
        found.append(_theirs(message))
        at += length
    return found


def _without_zeros(value: Any) -> Any:
    """Leave out the zeros of fields that our JSON always has, as their code does."""
    if isinstance(value, dict):
        kept = {key: _without_zeros(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if not (key in ALWAYS_THERE and item in (0, ""))}
    return value


def test_every_field_has_the_number_and_type_of_the_protocols_definition() -> None:
    for kind, numbers in FIELD_NUMBERS.items():
        theirs = client_pb2.DESCRIPTOR.message_types_by_name[kind.__name__].fields_by_name
        assert set(numbers) == {field.name for field in msgspec.structs.fields(kind)}
        assert {name: theirs[name].number for name in numbers if name in theirs} == {
            name: number for name, number in numbers.items() if name not in NEWER
        }


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(replies=st.lists(_records(Reply), min_size=1, max_size=3))
def test_their_code_reads_our_replies(replies: list[Reply]) -> None:
    found = _read_by_theirs(protobuf_frames.encode(replies), client_pb2.Reply)
    assert [_without_zeros(reply) for reply in found] == [_without_zeros(_as_json(reply)) for reply in replies]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(commands=st.lists(_records(Command), min_size=1, max_size=3))
def test_we_read_the_commands_that_their_code_writes(commands: list[Command]) -> None:
    frame = b""
    for command in commands:
        message = client_pb2.Command()
        _fill(message, command)
        data = message.SerializeToString()
        frame += encode_varint(len(data)) + data
    assert [_as_json(command) for command in protobuf_frames.decode(frame)] == [_as_json(c) for c in commands]


def _fill(message: Any, record: Struct) -> None:
    """Give a message of their classes the values of a record."""
    for name in set(record.__struct_fields__) - NEWER:
        value = getattr(record, name)
        if isinstance(value, Struct):
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value)
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, Struct):
                    _fill(getattr(message, name)[key], item)
                else:
                    getattr(message, name)[key] = item
        elif value is not None:
            setattr(message, name, bytes(value) if isinstance(value, Raw) else value)
    json_format.MessageToDict(message)  # fails if something was set that does not exist


def test_a_json_frame_has_several_commands_and_blank_lines() -> None:
    frame = '{"id":1,"send":{"data":1}}\n\n{}\n{"id":3,"new_thing":true}\n'
    assert [command.id for command in json_frames.decode(frame)] == [1, 0, 3]
    assert [command.id for command in json_frames.decode(frame.encode())] == [1, 0, 3]


@pytest.mark.parametrize(
    "frame",
    [
        "[]",
        "{",
        "\0",
        b"\xff",
        '{"id":-1}',
        '{"id":"1"}',
        '{"id":1,"connect":[]}',
        '{"subscribe":{"offset":-1}}',
        '{"subscribe":{"epoch":"a b"}}',
        '{"id":1,"rpc":{"data":' + "[" * 5000 + "]" * 5000 + "}}",
    ],
)
def test_a_json_frame_that_is_no_commands_is_refused(frame: str | bytes) -> None:
    with pytest.raises(ValueError):
        json_frames.decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x01",  # ends after the frame
        b"\xff" * 11,  # a length without an end
        b"\x01\x0b",  # a group
        b"\x02\x08\x80",  # a number without an end
        b"\x02\x0a\x01",  # the id as bytes
        b"\x03\x22\x05\x0a",  # a message that ends after its parent
        b"\x05\x22\x03\x0a\x01\xff",  # a token that is not UTF-8
    ],
)
def test_a_protobuf_frame_that_is_no_commands_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError):
        protobuf_frames.decode(frame)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_any_bytes_are_commands_or_refused(frame: bytes) -> None:
    for decode in (protobuf_frames.decode, json_frames.decode):
        with suppress(ValueError):
            decode(frame)


def test_unknown_fields_are_skipped() -> None:
    message = b"\x08\x05" + b"\xf8\x07\x01" + b"\xfd\x07abcd" + b"\xf9\x0712345678" + b"\xfa\x07\x02ab"
    [command] = protobuf_frames.decode(encode_varint(len(message)) + message)
    assert command == Command(id=5)


def test_a_line_feed_in_data_does_not_end_a_line() -> None:
    push = Push(channel="a", pub=Publication(data=Raw(b'{\n"a": "b\\n"\r\n}')))
    assert json_frames.encode([Reply(push=push), Reply(id=2, publish=PublishResult())]).split(b"\n") == [
        b'{"push":{"channel":"a","pub":{"data":{"a": "b\\n"\r}}}}',
        b'{"id":2,"publish":{}}',
    ]
    assert b"\n" not in json_frames.encode_push(push)


def test_data_passes_byte_for_byte() -> None:
    data = b'{ "a" :  [1.0, "\\u00e9"] }'
    message = client_pb2.Command(send=client_pb2.SendRequest(data=data)).SerializeToString()
    [command] = protobuf_frames.decode(encode_varint(len(message)) + message)
    assert command.send is not None
    assert bytes(command.send.data) == data
    assert command.send.data is not SendRequest().data
    reply = protobuf_frames.encode([Reply(push=Push(pub=Publication(data=command.send.data)))])
    assert data in reply


def test_a_ping_is_an_empty_reply() -> None:
    assert json_frames.encode([Reply()]) == b"{}"
    assert protobuf_frames.encode([Reply()]) == b"\0"
    assert protobuf_frames.decode(b"\0") == [Command()]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**32, 2**53, 2**63])
def test_numbers(value: int) -> None:
    assert decode_varint(b"x" + encode_varint(value), 1) == (value, 1 + len(encode_varint(value)))


def test_a_negative_number_takes_ten_bytes() -> None:
    message = client_pb2.Command(id=1, history=client_pb2.HistoryRequest(limit=-1)).SerializeToString()
    [command] = protobuf_frames.decode(encode_varint(len(message)) + message)
    assert command.history is not None
    assert command.history.limit == -1
    assert encode_varint(-1) == b"\xff" * 9 + b"\x01"
