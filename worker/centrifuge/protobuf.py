"""A codec between records and Protocol Buffers, version 3, for the types of fields that the protocol has. Pure.

A codec is made from records and the numbers of their fields. The type of a field in its record decides the wire type.
As the format demands, a field with the value of an absent one is not encoded, a field without a number in the table is
skipped, and of a field that comes twice the last one counts.
Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Raw, Struct

T = TypeVar("T", bound=Struct)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""The wire types. Those for groups, 3 and 4, are out of use and refused."""

MAX_VARINT_BYTES = 10


class ProtobufError(ValueError):
    """The bytes are no message of this type."""


Numbers = Mapping[type[Struct], Mapping[str, int]]
"""The number of each field, by the type of the record and the name of the field."""

Encode = Callable[[Any], bytes]
Decode = Callable[[Any], Any]


class _Field(NamedTuple):
    """A field of a record. `encode` makes its bytes, without the tag. `decode` gets an int or bytes."""

    name: str
    number: int
    wire_type: int
    encode: Encode
    decode: Decode
    is_list: bool = False
    is_map: bool = False

    @property
    def tag(self) -> bytes:
        return encode_varint(self.number << 3 | self.wire_type)


class Codec:
    """Encodes and decodes the records of a table."""

    def __init__(self, numbers: Numbers) -> None:
        """`numbers`: of each record that occurs, also within others. All their fields must have a number."""
        self._numbers = numbers
        self._fields: dict[type[Struct], dict[int, _Field]] = {}
        self._writers: dict[type[Struct], list[tuple[bytes, _Field, Any]]] = {}
        for kind in numbers:
            fields = list(self._fields_of(kind))
            self._fields[kind] = {field.number: field for field in fields}
            absent = {field.name: field.default for field in msgspec.structs.fields(kind)}
            self._writers[kind] = [(field.tag, field, absent[field.name]) for field in fields]

    def encode(self, record: Struct) -> bytes:
        """Return the bytes of a record. An empty one has none."""
        out = bytearray()
        for tag, field, absent in self._writers[type(record)]:
            value = getattr(record, field.name)
            if value is absent or (not value and not isinstance(value, (Struct, Raw))):
                continue
            if field.is_list:
                for item in value:
                    out += tag + field.encode(item)
            elif field.is_map:
                for entry in value.items():
                    out += tag + field.encode(entry)
            else:
                out += tag + field.encode(value)
        return bytes(out)

    def decode(self, data: bytes, kind: type[T]) -> T:
        """Return the record in some bytes.

        Raises ProtobufError for bytes that are not such a record, msgspec.ValidationError for values that the types of
        its fields do not allow.
        """
        return msgspec.convert(self._values(data, kind), kind)

    def _values(self, data: bytes, kind: type[Struct]) -> dict[str, Any]:
        known = self._fields[kind]
        values: dict[str, Any] = {}
        for number, wire_type, content in _parts(data):
            field = known.get(number)
            if field is None:
                continue
            if wire_type != field.wire_type:
                raise ProtobufError(f"field {number} of {kind.__name__} has wire type {wire_type}")
            value = field.decode(content)
            if field.is_list:
                values.setdefault(field.name, []).append(value)
            elif field.is_map:
                values.setdefault(field.name, {}).update([value])
            else:
                values[field.name] = value
        return values

    def _fields_of(self, kind: type[Struct]) -> Iterator[_Field]:
        for name, field_type in _types_of(kind).items():
            number = self._numbers[kind][name]
            origin, arguments = get_origin(field_type), get_args(field_type)
            if origin is list:
                yield _Field(name, number, *self._coding(arguments[0]), is_list=True)
            elif origin is dict:
                yield _Field(name, number, _BYTES, *self._entry_coding(arguments[1]), is_map=True)
            else:
                yield _Field(name, number, *self._coding(field_type))

    def _coding(self, kind: Any) -> tuple[int, Encode, Decode]:
        """Return the wire type of a value, its encoder and its decoder."""
        if kind is bool:
            return _VARINT, encode_varint, bool
        if kind is int:
            return _VARINT, encode_varint, _signed
        if kind is str:
            return _BYTES, lambda text: _with_length(text.encode()), _text
        if kind is Raw:
            return _BYTES, lambda raw: _with_length(bytes(raw)), Raw
        return _BYTES, lambda record: _with_length(self.encode(record)), lambda data: self._values(data, kind)

    def _entry_coding(self, kind: Any) -> tuple[Encode, Decode]:
        """Return the encoder and decoder of an entry of a map with keys that are texts: a message of two fields."""
        wire_type, encode, decode = self._coding(kind)
        value_tag = encode_varint(2 << 3 | wire_type)
        absent: Any = {str: "", bool: False, int: 0, Raw: Raw(b"")}.get(kind, {})

        def encode_entry(entry: tuple[str, Any]) -> bytes:
            key, value = entry
            return _with_length(b"\x0a" + _with_length(key.encode()) + value_tag + encode(value))

        def decode_entry(data: bytes) -> tuple[str, Any]:
            key, value = "", absent
            for number, found, content in _parts(data):
                if number == 1 and found == _BYTES:
                    key = _text(content)
                elif number == 2 and found == wire_type:
                    value = decode(content)
            return key, value

        return encode_entry, decode_entry


def encode_varint(value: int) -> bytes:
    """Return an integer as a varint. A negative one takes 10 bytes, as the types int32 and int64 do."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, start: int) -> tuple[int, int]:
    """Return the varint at `start`, without a sign, and the place after it.

    Raises ProtobufError if it has no end within the data or is longer than 64 bits.
    """
    value = 0
    for count in range(MAX_VARINT_BYTES):
        if start + count >= len(data):
            raise ProtobufError("a number has no end")
        byte = data[start + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value & 2**64 - 1, start + count + 1
    raise ProtobufError("a number is longer than 64 bits")


def _parts(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield the number, wire type and content of each field: an int for a varint, else bytes.

    Raises ProtobufError.
    """
    at = 0
    while at < len(data):
        tag, at = decode_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            content, at = decode_varint(data, at)
            yield number, wire_type, content
            continue
        if wire_type == _BYTES:
            length, at = decode_varint(data, at)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ProtobufError(f"field {number} has wire type {wire_type}")
        if length > len(data) - at:
            raise ProtobufError(f"field {number} ends after the message")
        yield number, wire_type, data[at : at + length]
        at += length


def _types_of(kind: type[Struct]) -> dict[str, Any]:
    """Return the types of the fields, without None and without constraints."""
    return {field.name: _plain(field.type) for field in msgspec.structs.fields(kind)}


def _plain(kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return next(_plain(part) for part in get_args(kind) if part is not type(None))
    return kind


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ProtobufError(f"a text is not UTF-8: {exc}") from None


def _with_length(data: bytes) -> bytes:
    return encode_varint(len(data)) + data
