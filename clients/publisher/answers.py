"""The meaning of HTTP answers, and of errors in the place of an answer."""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final

from wsd.publisher.address import KEY_VARIABLE, URL_VARIABLE
from wsd.publisher.errors import PublishError

NOT_NOW: Final = frozenset({429, 502, 503, 504})
"""Statuses of a request that may succeed a moment later."""

SHOWN_CHARACTERS: Final = 100
"""Of an answer that is not from wsd, so much is shown."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `retry_after` is in seconds, 0 if it asks for nothing."""

    status: int
    body: bytes
    retry_after: float = 0.0
    location: str = ""


@dataclass(frozen=True)
class Failure:
    """The reason for which a request was not carried out.

    `wait`: the pause in seconds that the server asks for. `answer`: the JSON in the answer, or None.
    """

    error: PublishError
    wait: float = 0.0
    answer: Any = None


def decoded(body: bytes) -> Any:
    """Return the JSON in a body, or None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def failure_of(answer: Answer, url: str, *, has_key: bool) -> Failure | None:
    """Return why an answer is a failure, or None if it is not."""
    found = decoded(answer.body)
    if answer.status == 200 and isinstance(found, dict):
        return None
    text = _reason(answer, found, url, has_key=has_key)
    error = PublishError(text, status=answer.status, temporary=answer.status in NOT_NOW)
    return Failure(error, answer.retry_after, found)


def _reason(answer: Answer, found: object, url: str, *, has_key: bool) -> str:
    if answer.location and 300 <= answer.status < 400:
        return f"{url} redirects to {answer.location}: set {URL_VARIABLE} or url=... to where it leads"
    reason = found.get("error") if isinstance(found, dict) else None
    if not isinstance(reason, str):
        shown = " ".join(answer.body[: 4 * SHOWN_CHARACTERS].decode(errors="replace").split())[:SHOWN_CHARACTERS]
        return f"{url} answered with HTTP {answer.status}, which is not from wsd but from a server before it: {shown!r}"
    if answer.status == 401:
        what = "refuses this API key" if has_key else "needs an API key"
        return f"{url} {what}: set {KEY_VARIABLE} or api_key=... to what security.api_key of the cluster is"
    return f"{url} answered with HTTP {answer.status}: {reason}"


def failure_without_answer(exc: OSError | http.client.HTTPException, url: str, advice: str, timeout: float) -> Failure:
    """Return why a request has got no answer. `advice` says what to look for. `timeout` in seconds."""
    temporary = True
    match exc:
        case TimeoutError():
            reason = f"did not answer within {timeout:g} s"
        case socket.gaierror():
            reason = f"cannot be reached, its name was not found ({exc.strerror})"
        case ssl.SSLCertVerificationError():
            reason = f"has a certificate that is not trusted ({exc})"
            temporary = False
        case ssl.SSLError():
            reason = f"cannot be reached, TLS failed ({exc})"
        case http.client.RemoteDisconnected() | http.client.IncompleteRead():
            reason = "closed the connection without an answer"
        case ConnectionError() | OSError():
            reason = f"cannot be reached ({exc.strerror or exc})"
        case _:
            reason = f"gave no valid HTTP answer ({exc!r})"
    return Failure(PublishError(f"{url} {reason}{advice}", temporary=temporary))
