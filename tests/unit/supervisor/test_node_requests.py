"""Signed requests between nodes: what is accepted, and what is refused."""

import json
from dataclasses import replace

import pytest

from wsd.supervisor.nodes.signing import (
    MAX_REQUEST_LENGTH,
    WINDOW_SECONDS,
    Gatekeeper,
    NodeRequest,
    RefusedRequestError,
    read_line,
    sign,
    sign_line,
)

KEY = "0123456789abcdef"
NOW = 1_800_000_000_000.0
WINDOW = int(WINDOW_SECONDS * 1000)
REQUEST = NodeRequest(
    node_id="node-2", inbox="box", action="restart", body='{"slots": [1]}', asker="ann", request_id="r1",
    time_ms=int(NOW),
)  # fmt: skip


def gatekeeper() -> Gatekeeper:
    return Gatekeeper(KEY, "node-2", "box")


def refusal(text: str | bytes, now: float = NOW, keeper: Gatekeeper | None = None) -> str:
    with pytest.raises(RefusedRequestError) as caught:
        (keeper or gatekeeper()).admit(text.encode() if isinstance(text, str) else text, now)
    return str(caught.value)


def test_a_signed_request_is_accepted_as_it_was_sent() -> None:
    assert gatekeeper().admit(sign(KEY, REQUEST).encode(), NOW) == REQUEST


@pytest.mark.parametrize("key", ["", "0123456789abcdeF", KEY + "0"])
def test_another_key_is_refused(key: str) -> None:
    assert "signature" in refusal(sign(key, REQUEST))


@pytest.mark.parametrize("field", sorted(NodeRequest.__dataclass_fields__))
def test_every_field_is_signed(field: str) -> None:
    sent = json.loads(sign(KEY, REQUEST))
    value = sent["request"][field]
    sent["request"][field] = value + 1 if isinstance(value, int) else value + "x"
    assert "signature" in refusal(json.dumps(sent))


def test_fields_cannot_be_shifted_into_each_other() -> None:
    shifted = replace(REQUEST, action="restar", body='t{"slots": [1]}')
    sent = {"request": json.loads(sign(KEY, shifted))["request"], "mac": json.loads(sign(KEY, REQUEST))["mac"]}
    assert "signature" in refusal(json.dumps(sent))


@pytest.mark.parametrize("changed", [{"node_id": "node-1"}, {"inbox": "an earlier one"}])
def test_a_request_to_another_supervisor_is_refused(changed: dict[str, str]) -> None:
    assert "another node" in refusal(sign(KEY, replace(REQUEST, **changed)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("age_ms", "accepted"),
    [(0, True), (WINDOW, True), (WINDOW + 1, False), (-WINDOW, True), (-WINDOW - 1, False), (10**9, False)],
)
def test_only_requests_of_now_are_accepted(age_ms: int, accepted: bool) -> None:
    text = sign(KEY, replace(REQUEST, time_ms=int(NOW) - age_ms))
    if accepted:
        gatekeeper().admit(text.encode(), NOW)
    else:
        assert ("old" if age_ms > 0 else "future") in refusal(text)


@pytest.mark.parametrize("after_ms", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 10 * WINDOW])
@pytest.mark.parametrize("offset_ms", [-WINDOW, 0, WINDOW])
def test_no_request_is_accepted_twice(after_ms: int, offset_ms: int) -> None:
    keeper, text = gatekeeper(), sign(KEY, replace(REQUEST, time_ms=int(NOW) + offset_ms))
    keeper.admit(text.encode(), NOW)
    assert refusal(text, NOW + after_ms, keeper)
    assert refusal(text, NOW + after_ms, keeper)


def test_a_clock_that_goes_back_lets_no_request_in_again() -> None:
    keeper, text = gatekeeper(), sign(KEY, REQUEST)
    keeper.admit(text.encode(), NOW)
    keeper.admit(sign(KEY, replace(REQUEST, request_id="r2", time_ms=int(NOW) + 2 * WINDOW)).encode(), NOW + 2 * WINDOW)
    assert "old" in refusal(text, NOW, keeper)


def test_different_requests_of_one_moment_are_accepted() -> None:
    keeper = gatekeeper()
    for number in range(100):
        keeper.admit(sign(KEY, replace(REQUEST, request_id=str(number))).encode(), NOW)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\xff", b"[]", b"null", b"{}", b"[" * 50_000, b"x" * (MAX_REQUEST_LENGTH + 1),
        b'{"request": {}, "mac": ""}', b'{"request": null, "mac": null}',
        json.dumps({"request": json.loads(sign(KEY, REQUEST))["request"]}),
        json.dumps({"request": json.loads(sign(KEY, REQUEST))["request"], "mac": 5}),
        json.dumps({"request": json.loads(sign(KEY, REQUEST))["request"], "mac": "ü"}),
        json.dumps({"request": {**json.loads(sign(KEY, REQUEST))["request"], "time_ms": "now"}, "mac": "0"}),
        json.dumps({"request": {**json.loads(sign(KEY, REQUEST))["request"], "more": 1}, "mac": "0"}),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(text: str | bytes) -> None:
    assert refusal(text)


def test_a_line_of_an_answer_is_read_as_it_was_sent() -> None:
    assert read_line(KEY, "r1", 3, sign_line(KEY, "r1", 3, "text")) == "text"


@pytest.mark.parametrize(
    "text",
    [
        sign_line("another key, another key", "r1", 3, "text"), sign_line(KEY, "r2", 3, "text"),
        sign_line(KEY, "r1", 2, "text"), sign_line(KEY, "r1", 3, "text").replace("text", "test"), "", "[]", "{}",
        '{"line": 5, "mac": 5}', '{"line": "text", "mac": "ü"}', "[" * 50_000, b"\xff",
    ],
)  # fmt: skip
def test_other_lines_are_not_read(text: str | bytes) -> None:
    assert read_line(KEY, "r1", 3, text) is None


def test_a_request_is_no_line_of_an_answer() -> None:
    assert read_line(KEY, "r1", 0, sign(KEY, REQUEST)) is None
