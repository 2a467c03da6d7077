"""Who may enter the dashboard."""

import pytest

from wsd.supervisor.dashboard import Visitor, proof_of, refusal

HERE = Visitor(address="127.0.0.1", host="127.0.0.1:8000")


@pytest.mark.parametrize(
    ("visitor", "token", "expected"),
    [
        (HERE, "", None),
        (Visitor(address="::1", host="[::1]:8000"), "", None),
        (Visitor(address="::1", host="[::1]"), "", None),
        (Visitor(address="127.8.9.1", host="localhost"), "", None),
        (Visitor(address="192.0.2.1", host="127.0.0.1:8000"), "", 403),
        (Visitor(address="", host="localhost"), "", 403),
        (Visitor(address="127.0.0.1", host="localhost", forwarded="192.0.2.1"), "", 403),
        (Visitor(address="127.0.0.1", host="evil.example:8000"), "", 403),
        (Visitor(address="127.0.0.1", host="127.0.0.1.evil.example"), "", 403),
        (Visitor(address="127.0.0.1", host=""), "", 403),
        (Visitor(address="127.0.0.1", host="localhost", changes=True, intent=False), "", 403),
        (Visitor(address="127.0.0.1", host="localhost", changes=True, intent=True), "", None),
        (HERE, "s3cret", 401),
        (Visitor(address="127.0.0.1", host="localhost", proof="s3cret"), "s3cret", 401),
        (Visitor(address="192.0.2.1", host="chat.example", proof=proof_of("wrong")), "s3cret", 401),
        (Visitor(address="192.0.2.1", host="chat.example", proof=proof_of("")), "s3cret", 401),
        (Visitor(address="192.0.2.1", host="chat.example", forwarded="x", proof=proof_of("s3cret")), "s3cret", None),
        (
            Visitor(address="192.0.2.1", host="chat.example", proof=proof_of("s3cret"), changes=True, intent=False),
            "s3cret",
            403,
        ),
        (Visitor(address="127.0.0.1", host="localhost", proof="ünï"), "ünï", 401),
    ],
)
def test_without_a_token_this_machine_alone_and_with_one_who_has_it(
    visitor: Visitor, token: str, expected: int | None
) -> None:
    refused = refusal(visitor, token)
    assert (refused[0] if refused is not None else None) == expected
