"""What answers mean for a publisher."""

import http.client
import socket
import ssl

import pytest

from wsd.publisher.answers import Answer, failure_of, failure_without_answer

URL = "http://host"


def text_of(status: int, body: bytes, *, has_key: bool = True, location: str = "") -> str:
    failure = failure_of(Answer(status, body, location=location), URL, has_key=has_key)
    assert failure is not None
    return str(failure.error)


def test_json_with_200_is_no_failure() -> None:
    assert failure_of(Answer(200, b"{}"), URL, has_key=True) is None


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_succeed_a_moment_later_is_tried_again(status: int) -> None:
    failure = failure_of(Answer(status, b'{"error": "busy"}', 7.0), URL, has_key=True)
    assert failure is not None
    assert (failure.error.temporary, failure.error.status, failure.wait) == (True, status, 7.0)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 405, 413, 500])
def test_anything_else_is_final(status: int) -> None:
    failure = failure_of(Answer(status, b"no JSON"), URL, has_key=True)
    assert failure is not None
    assert not failure.error.temporary


def test_errors_say_what_to_do() -> None:
    refused = b'{"error": "wrong or missing API key"}'
    what = "set WSD_API_KEY or api_key=... to what security.api_key of the cluster is"
    assert text_of(401, refused) == f"http://host refuses this API key: {what}"
    assert text_of(401, refused, has_key=False) == f"http://host needs an API key: {what}"
    assert text_of(400, b'{"error": "data may have 5 bytes"}') == (
        "http://host answered with HTTP 400: data may have 5 bytes"
    )
    assert text_of(308, b"", location="https://host/") == (
        "http://host redirects to https://host/: set WSD_URL or url=... to where it leads"
    )
    assert text_of(502, b"<html>\n<h1>Bad Gateway</h1>" + b"x" * 5000) == (
        "http://host answered with HTTP 502, which is not from wsd but from a server before it: "
        + repr("<html> <h1>Bad Gateway</h1>" + "x" * 73)
    )


@pytest.mark.parametrize(
    ("exc", "reason", "temporary"),
    [
        (TimeoutError(), "did not answer within 3 s; really?", True),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached (Connection refused); really?", True),
        (socket.gaierror(-2, "Name or service not known"), "cannot be reached, its name was not found", True),
        (http.client.RemoteDisconnected(""), "closed the connection without an answer", True),
        (http.client.IncompleteRead(b""), "closed the connection without an answer", True),
        (http.client.BadStatusLine("x"), "gave no valid HTTP answer", True),
        (ssl.SSLError(1, "wrong version number"), "cannot be reached, TLS failed", True),
        (ssl.SSLCertVerificationError(1, "x"), "has a certificate that is not trusted", False),
    ],
)
def test_no_answer_is_explained(exc: OSError | http.client.HTTPException, reason: str, temporary: bool) -> None:
    error = failure_without_answer(exc, URL, "; really?", 3.0).error
    assert str(error).startswith(f"http://host {reason}")
    assert (error.temporary, error.status) == (temporary, None)
