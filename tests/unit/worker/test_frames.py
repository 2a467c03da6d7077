"""Close frames: codes that may be sent, and reasons that are cut."""

from typing import Any

import pytest

from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.wire import frames

SENDABLE = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4499, 4500, 4999]
FORBIDDEN = [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65_535, 65_536, 70_000, 2**70]


@pytest.mark.parametrize("code", SENDABLE)
def test_a_code_that_may_be_sent_is_one_that_may_come(code: int) -> None:
    frame = frames.encode_close(code, "why")
    assert frame == bytes((0x88, 5)) + code.to_bytes(2) + b"why"
    assert frames.parse_close(frame[2:]) == (code, "why")


@pytest.mark.parametrize("code", FORBIDDEN)
def test_a_code_that_rfc_6455_forbids_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
        frames.encode_close(code)


@pytest.mark.parametrize(("code", "reason"), [("1000", ""), (1000.0, ""), (None, ""), (1000, b"why"), (1000, None)])
def test_values_that_are_not_a_close_code_or_reason_are_refused(code: Any, reason: Any) -> None:
    with pytest.raises(TypeError):
        frames.encode_close(code, reason)


@pytest.mark.parametrize("reason", ["\ud83d", "no such command: \ude00", "\ud83dx\ude00"])
def test_a_lone_surrogate_is_refused_and_can_be_replaced(reason: str) -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        frames.encode_close(1008, reason)
    frames.encode_close(1008, frames.close_reason(reason))


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("", ""),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 62, "é" * 61),
        ("x" * 121 + "é", "x" * 121 + "é"),
        ("x" * 122 + "é", "x" * 122),
        ("🙂" * 31, "🙂" * 30),
        ("x" * 1_000_000, "x" * 123),
    ],
)
def test_a_long_reason_is_cut_between_two_characters(reason: str, kept: str) -> None:
    assert frames.close_reason(reason) == kept
    assert frames.parse_close(frames.encode_close(1000, reason)[2:]) == (1000, kept)


@pytest.mark.parametrize(("code", "reason"), [(1008, "\ud83d"), (70_000, ""), (1006, ""), ("x", "")])
def test_an_outbox_that_cannot_close_so_is_still_open(code: Any, reason: str) -> None:
    outbox = Outbox(Outlet())
    with pytest.raises((ValueError, TypeError)):
        outbox.close(code, reason)
    assert outbox.closed is None
    outbox.close(4999, "x" * 200)
    assert outbox.closed == (4999, "x" * 123)
