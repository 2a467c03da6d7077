"""Sensitive fields are removed and deep data is refused. Everything else is relayed byte for byte."""

import json
from typing import Any

import pytest
from msgspec import Raw

from wsd.worker.contract.environment import SENSITIVE_FIELDS
from wsd.worker.wire.messages import RequestError
from wsd.worker.wire.redaction import PayloadFilter

filtered = PayloadFilter(SENSITIVE_FIELDS)


def relayed(text: str) -> Any:
    return json.loads(bytes(filtered(Raw(text.encode()))))


@pytest.mark.parametrize(
    "text", ['{"a": 1.0, "b":[ ]}', '"text"', "17", "null", '{"pass": 1, "word": 2}', '{"a":1,"a":2}']
)
def test_harmless_json_is_relayed_byte_for_byte(text: str) -> None:
    assert bytes(filtered(Raw(text.encode()))) == text.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"password": "x", "user": "ann"}', {"user": "ann"}),
        ('{"PassWord": "x", "TOKEN": 1, "Api_Key": {"a": 1}}', {}),
        ('[{"a": [{"secret": 1, "b": 2}]}]', [{"a": [{"b": 2}]}]),
        (r'{"pass\u0077ord": 1, "b": 2}', {"b": 2}),
        (r'{"\u0050ASSWORD": 1}', {}),
        ('{"text": "my password is x"}', {"text": "my password is x"}),
        ('{"passwords": 1, "token_type": 2}', {"passwords": 1, "token_type": 2}),
        (r'{"text": "\u00fc\ud83d\ude42"}', {"text": "ü🙂"}),
        ('"password"', "password"),
    ],
)
def test_sensitive_fields_are_taken_out_wherever_they_are(text: str, expected: object) -> None:
    assert relayed(text) == expected


def nested(levels: int, inner: str = "1") -> str:
    return '{"a":[' * (levels // 2) + "[" * (levels % 2) + inner + "]" * (levels % 2) + "]}" * (levels // 2)


@pytest.mark.parametrize("levels", [0, 1, 31, 32])
def test_data_may_have_32_levels(levels: int) -> None:
    assert relayed(nested(levels)) == json.loads(nested(levels))


@pytest.mark.parametrize("text", [nested(33), nested(1000), "[" * 30_000 + "]" * 30_000])
def test_deeper_data_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        filtered(Raw(text.encode()))
    assert refused.value.code == "too_deep"


def test_many_brackets_side_by_side_are_not_deep() -> None:
    text = json.dumps([[n] for n in range(1000)])
    assert relayed(text) == json.loads(text)


def test_the_sensitive_names_can_be_chosen() -> None:
    only = PayloadFilter(["Größe", ""])
    assert json.loads(bytes(only(Raw('{"GRÖSSE": 1, "password": 2}'.encode())))) == {"password": 2}
    assert bytes(PayloadFilter([])(Raw(b'{"password": 2}'))) == b'{"password": 2}'
