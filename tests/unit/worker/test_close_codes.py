"""The end of a connection, in words and as a label of metrics."""

import pytest

from wsd.worker.server.other_protocols import close_code
from wsd.worker.wire.close_codes import CLEAN_CODES, MEANINGS, CloseCode, Ending, Side, may_be_sent

LOST = "1006 lost without a close frame: the client, a network or a proxy is gone"


@pytest.mark.parametrize(
    ("side", "code", "reason", "words", "label"),
    [
        (Side.CLIENT, 1000, "", "1000 by the client", "goodbye"),
        (Side.CLIENT, 1001, "page closed", "1001 by the client (page closed)", "goodbye"),
        (Side.CLIENT, 1008, "no", "1008 by the client (no)", "by_client"),
        (Side.CLIENT, 1012, "", "1012 by the client", "by_client"),
        (Side.CLIENT, 1013, "", "1013 by the client", "by_client"),
        (Side.CLIENT, 4500, "", "4500 by the client", "by_client"),
        (Side.SERVER, 1000, "", "1000 by the server", "goodbye"),
        (Side.SERVER, 1002, "", "1002 by the server: the client broke the WebSocket protocol", "other"),
        (Side.SERVER, 1007, "", "1007 by the server: the client sent text that is not UTF-8", "invalid_text"),
        (Side.SERVER, 1008, "", "1008 by the server: the client did something that is not allowed", "policy"),
        (Side.SERVER, 1009, "", "1009 by the server: the client's message was too large", "too_big"),
        (
            Side.SERVER,
            1011,
            "late",
            "1011 by the server: the client did not answer a ping, or the application failed (late)",
            "failed",
        ),
        (
            Side.SERVER,
            1012,
            "",
            "1012 by the server: its worker stops, is replaced, or had too many connections",
            "restart",
        ),
        (Side.SERVER, 1013, "", "1013 by the server: the client reads too slowly", "slow_reader"),
        (Side.SERVER, 4000, "", "4000 by the server: the client sent nothing but pings for too long", "idle"),
        (Side.SERVER, 4408, "", "4408 by the server: the client did not say in time which session it resumes", "other"),
        (
            Side.SERVER,
            4429,
            "too many messages",
            "4429 by the server: too many messages came from the client, or its user has too many connections"
            " (too many messages)",
            "policy",
        ),
        (Side.SERVER, 4321, "", "4321 by the server", "other"),
        (Side.NETWORK, 1006, "", LOST, "lost"),
        (Side.UNKNOWN, 1006, "", LOST, "lost"),
        (Side.UNKNOWN, 1000, "", "1000 by the client", "goodbye"),
        (Side.UNKNOWN, 1013, "", "1013 probably by the server: the client reads too slowly", "slow_reader"),
    ],
)
def test_an_ending_names_the_side_the_code_and_the_reason(
    side: Side, code: int, reason: str, words: str, label: str
) -> None:
    ending = Ending(side, code, reason)
    assert (str(ending), ending.label) == (words, label)


def test_a_close_without_a_code_is_clean_and_a_lost_connection_is_not() -> None:
    assert close_code({"type": "websocket.disconnect", "code": 1005, "reason": ""}) == 1000
    assert close_code({"type": "websocket.disconnect", "code": 1005}) == 1006
    assert close_code({"type": "websocket.disconnect", "code": 1012}) == 1012
    assert close_code({"type": "websocket.disconnect"}) == 1006


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_registered_codes_and_codes_of_applications_may_be_sent(code: int) -> None:
    assert may_be_sent(code)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65_535])
def test_reserved_codes_may_not_be_sent(code: int) -> None:
    assert not may_be_sent(code)


def test_every_code_but_the_one_that_stands_for_none_has_a_meaning() -> None:
    assert set(CloseCode) - set(MEANINGS) == {CloseCode.NO_STATUS}


def test_every_code_that_the_server_sends_may_be_sent_and_has_words() -> None:
    sent = set(CloseCode) - {CloseCode.NO_STATUS, CloseCode.ABNORMAL}
    assert all(may_be_sent(code) for code in sent)
    assert [code for code in sorted(sent) if not MEANINGS[code].words] == list(CLEAN_CODES)


def test_a_code_of_an_application_is_counted_as_another() -> None:
    ending = Ending(Side.SERVER, 4242, "")
    assert (str(ending), ending.label) == ("4242 by the server", "other")
