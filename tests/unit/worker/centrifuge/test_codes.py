"""The error codes and close codes that clients of the Centrifuge protocol get in place of wsd's own."""

from typing import get_args

import pytest

from wsd.worker.centrifuge.codes import close_for, error_for
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.messages import ErrorCode


@pytest.mark.parametrize("code", get_args(ErrorCode))
def test_each_error_has_a_code_of_the_protocol(code: str) -> None:
    assert 100 <= error_for(code, "why").code <= 113


def test_an_error_of_the_application_keeps_its_words() -> None:
    error = error_for("too_rude", "mind your language")
    assert (error.code, error.message, error.temporary) == (400, "too_rude: mind your language", False)


def _comes_back(code: int) -> bool:
    """Tell whether the clients come back after a code, by the ranges of the protocol."""
    return code < 3500 or 4000 <= code < 4500


@pytest.mark.parametrize(
    "code", [code for code in CloseCode if code not in (CloseCode.NO_STATUS, CloseCode.ABNORMAL, CloseCode.TOO_BIG)]
)
def test_a_close_has_the_effect_that_it_has_on_our_clients(code: CloseCode) -> None:
    stays_away = {CloseCode.NORMAL, CloseCode.POLICY, CloseCode.INVALID_TEXT, CloseCode.PROTOCOL_ERROR}
    close = close_for(code, "")
    assert close.reason
    if code in stays_away or code >= 4500:
        assert not _comes_back(close.code) or code in {CloseCode.NORMAL, CloseCode.PROTOCOL_ERROR}
    else:
        assert _comes_back(close.code)


@pytest.mark.parametrize("code", [CloseCode.NO_STATUS, CloseCode.ABNORMAL, 0, 999, 2999, 5000])
def test_what_no_frame_may_carry_is_an_error_of_the_server(code: int) -> None:
    assert close_for(code, "").code == 3004


def test_a_reason_is_kept_unless_it_is_json() -> None:
    assert close_for(4500, "banned") == (3503, "banned")
    assert close_for(4500, ' {"reconnect": true}') == (3503, "force disconnect")
    assert close_for(4321, "own") == (4321, "own")
