"""Access to the dashboard."""

from typing import Any

import pytest

from wsd.supervisor.control.access import Access, Visitor, refusal

MADE = Access(secret="kept in the state directory")
SET = Access(secret="kept in the state directory", configured="s3cret")


def visitor(access: Access, address: str = "127.0.0.1", host: str = "localhost:8000", **changes: Any) -> Visitor:
    """Return a visitor who has the cookie."""
    return Visitor(**{"address": address, "host": host, "proof": access.proof, **changes})


@pytest.mark.parametrize(
    ("visitor", "access", "expected"),
    [
        (visitor(MADE), MADE, None),
        (visitor(MADE, "::1", "[::1]:8000"), MADE, None),
        (visitor(MADE, "::1", "[::1]"), MADE, None),
        (visitor(MADE, "127.8.9.1", "localhost"), MADE, None),
        (visitor(MADE, changes=True, intent=True), MADE, None),
        (visitor(MADE, changes=True, intent=False), MADE, 403),
        # With a token that was made, from this machine alone.
        (visitor(MADE, "192.0.2.1", "127.0.0.1:8000"), MADE, 403),
        (visitor(MADE, "", "localhost"), MADE, 403),
        (visitor(MADE, forwarded="192.0.2.1"), MADE, 403),
        (visitor(MADE, host="evil.example:8000"), MADE, 403),
        (visitor(MADE, host="127.0.0.1.evil.example"), MADE, 403),
        (visitor(MADE, host=""), MADE, 403),
        # On this machine not without the token, either.
        (visitor(MADE, proof=""), MADE, 401),
        (visitor(MADE, proof=MADE.token), MADE, 401),
        (visitor(Access("another state directory")), MADE, 401),
        (visitor(SET), MADE, 401),
        # With dashboard.token, from anywhere.
        (visitor(SET, "192.0.2.1", "chat.example", forwarded="x"), SET, None),
        (visitor(SET, "192.0.2.1", "chat.example", changes=True, intent=False), SET, 403),
        (visitor(SET, proof=""), SET, 401),
        (visitor(SET, proof="s3cret"), SET, 401),
        (visitor(SET, proof="ünï"), SET, 401),
        (visitor(MADE), SET, 401),
        (visitor(Access(SET.secret, "wrong")), SET, 401),
        (visitor(Access("guessed", "s3cret")), SET, 401),  # the cookie does not follow from the token
    ],
)
def test_access_is_decided_by_address_token_and_cookie(visitor: Visitor, access: Access, expected: int | None) -> None:
    refused = refusal(visitor, access)
    assert (refused.status if refused is not None else None) == expected


def test_a_token_that_is_made_stays_the_same_and_is_long() -> None:
    assert MADE.token == Access(MADE.secret).token
    assert len({MADE.token, Access("other").token, MADE.proof, SET.proof, MADE.secret}) == 5
    assert len(MADE.token) * 4 >= 160
    assert MADE.is_token(MADE.token)
    assert not MADE.is_token("")
    assert not MADE.is_token("ünï")
    assert SET.is_token("s3cret")
    assert not SET.is_token(MADE.token)
