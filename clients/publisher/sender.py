"""Sending requests, and judging what became of them. Both publishers are around it."""

import http.client
import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from wsd.publisher.address import URL_VARIABLE, address
from wsd.publisher.answers import Failure, decoded, failure_of, failure_without_answer
from wsd.publisher.calls import Call, results
from wsd.publisher.connections import Connections, connections_to
from wsd.publisher.errors import PublishError
from wsd.publisher.records import PublishResult
from wsd.publisher.retrying import Attempts, check_times

T = TypeVar("T")

ADVICE: Final = f"; does the cluster run, and is this its URL? (url=..., {URL_VARIABLE})"

TIMEOUT_SECONDS: Final = 10.0
"""How long one attempt may take, for each step: to connect, to send, to get the answer."""

RETRY_FOR_SECONDS: Final = 30.0
"""How long a request is sent again."""


@dataclass(frozen=True)
class Sender:
    """Sends requests to one cluster.

    `url` names the cluster in errors, and `advice` ends those about a cluster that does not answer.
    """

    connections: Connections
    url: str
    advice: str = ""
    has_key: bool = True
    timeout: float = TIMEOUT_SECONDS
    retry_for: float = RETRY_FOR_SECONDS

    def run(self, call: Call[T]) -> T:
        """Send a request until it is answered, and return what the answer says. Raises PublishError."""
        attempts = self.attempts()
        while isinstance(found := self.attempt(call, attempts), Failure):
            time.sleep(self.pause_after(found, attempts))
        return found

    def attempts(self) -> Attempts:
        """Return the attempts of a request that is asked for now."""
        return Attempts(self.retry_for, time.monotonic())

    def attempt(self, call: Call[T], attempts: Attempts) -> T | Failure:
        """Send a request once, unless it is too late for another attempt."""
        if not attempts.may_send(time.monotonic()):
            return Failure(PublishError(f"{self.url} was not asked again in time", temporary=True))
        try:
            answer = self.connections.request(call.method, call.target, call.body)
        except (OSError, http.client.HTTPException) as exc:
            return failure_without_answer(exc, self.url, self.advice, self.timeout)
        failure = failure_of(answer, self.url, has_key=self.has_key)
        if failure is not None:
            failure.error.results = _published_before(failure.answer)
            return failure
        try:
            return call.read(decoded(answer.body))
        except (KeyError, TypeError, ValueError) as exc:
            reason = f"{self.url} gave an answer that this version of wsd does not know: {exc!r}"
            return Failure(PublishError(reason, status=answer.status))

    def pause_after(self, failure: Failure, attempts: Attempts) -> float:
        """Return the seconds until the next attempt. Raises PublishError if there is none."""
        now, error = time.monotonic(), failure.error
        pause = attempts.pause(now, failure.wait, random.random()) if error.temporary else None
        if pause is None:
            text = f"{error}{attempts.summary(now)}"
            raise PublishError(text, status=error.status, results=error.results, temporary=error.temporary)
        return pause


def sender_to(
    url: str | None, api_key: str | None, *, timeout: float, retry_for: float, context: ssl.SSLContext | None
) -> Sender:
    """Return a sender for the arguments of a publisher. Raises ValueError for those that cannot be used."""
    check_times(timeout, retry_for)
    where = address(url, api_key)
    connections = connections_to(where, timeout, context)
    return Sender(connections, where.url, ADVICE, bool(where.api_key), timeout, retry_for)


def add_earlier(error: PublishError, earlier: Sequence[PublishResult]) -> None:
    """Put results of earlier requests before those of an error."""
    error.results = (*earlier, *error.results)


def _published_before(answer: Any) -> tuple[PublishResult, ...]:
    """Return the results in the answer to a request of which only a part was carried out."""
    try:
        return tuple(results(answer))
    except (KeyError, TypeError):
        return ()
