import pytest

from wsd.worker.hub import close_code
from wsd.worker.websocket_manager import reason_of


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "goodbye"),
        (1001, "goodbye"),
        (1006, "lost"),
        (1007, "invalid_text"),
        (1008, "policy"),
        (1009, "too_big"),
        (1012, "restart"),
        (1013, "slow_reader"),
        (4000, "idle"),
        (4500, "session_ended"),
        (1011, "failed"),
        (4711, "other"),
    ],
)
def test_every_close_is_counted_by_its_reason(code: int, reason: str) -> None:
    assert reason_of(code) == reason


def test_a_close_without_a_code_is_a_goodbye_and_a_lost_connection_is_not() -> None:
    assert close_code({"type": "websocket.disconnect", "code": 1005, "reason": ""}) == 1000
    assert close_code({"type": "websocket.disconnect", "code": 1005}) == 1006
    assert close_code({"type": "websocket.disconnect", "code": 1012}) == 1012
    assert close_code({"type": "websocket.disconnect"}) == 1006
