"""Requests from node to node, and the answers to them, signed with the key that the nodes share.

They travel through Redis, where others may read, change, repeat and remove them. Only a holder of `cluster.cluster_key`
can make one that is accepted. Nothing here is encrypted.
"""

import hashlib
import hmac
import json
from dataclasses import asdict, astuple, dataclass
from typing import Self

from wsd.worker.contract.json_records import check_types, decode

WINDOW_SECONDS = 30.0
"""How old a request may be, and how far in the future its time may lie, by the clock of Redis."""

MAX_REQUEST_LENGTH = 65_536
"""The most bytes of a request. The control socket takes bodies of a quarter of that."""


class RefusedRequestError(ValueError):
    """A text is no request that this node may act on. The message says why."""


@dataclass(frozen=True, kw_only=True)
class NodeRequest:
    """A request to one supervisor, which its `inbox` names."""

    node_id: str
    inbox: str
    action: str
    body: str  # the arguments of the action, as JSON
    asker: str  # for the events of the node
    request_id: str  # random
    time_ms: int  # by the clock of Redis

    @classmethod
    def from_raw(cls, raw: object) -> Self:
        """Read a request from decoded JSON. Raises ValueError."""
        if not isinstance(raw, dict) or set(raw) != set(cls.__dataclass_fields__):
            raise ValueError("not the fields of a request")
        check_types(cls, raw)
        return cls(**raw)


def sign(key: str, request: NodeRequest) -> str:
    """Return the text of a request, with its signature."""
    return json.dumps({"request": asdict(request), "mac": _mac(key, "request", *astuple(request))})


def sign_line(key: str, request_id: str, number: int, line: str) -> str:
    """Return the text of a line of an answer, with its signature. The first line has the number 0."""
    return json.dumps({"line": line, "mac": _mac(key, "line", request_id, number, line)})


def read_line(key: str, request_id: str, number: int, text: str | bytes) -> str | None:
    """Return a line of an answer, or None if the text is not the line with this number of the answer."""
    try:
        raw = decode(text)
        line, mac = raw["line"], raw["mac"]
        is_signed = hmac.compare_digest(_mac(key, "line", request_id, number, line), mac)
    except (ValueError, TypeError, KeyError):
        return None
    return line if is_signed and isinstance(line, str) else None


class Gatekeeper:
    """The decision about each request to this supervisor.

    It remembers the ids of requests while their times are acceptable, and its clock never goes back. So no request is
    accepted twice, even where a failover leads to a Redis whose clock is behind. An inbox has a new name in each
    life of a supervisor, and so a request to an earlier life is refused.
    """

    def __init__(self, key: str, node_id: str, inbox: str) -> None:
        self._key = key
        self._node_id = node_id
        self._inbox = inbox
        self._now_ms = 0.0
        self._seen: dict[str, int] = {}  # the times of requests by their ids

    def admit(self, text: bytes | str, now_ms: float) -> NodeRequest:
        """Return the request that a text holds. `now_ms` is the time by the clock of Redis.

        Raises RefusedRequestError.
        """
        request = self._signed(text)
        if request.node_id != self._node_id or request.inbox != self._inbox:
            raise RefusedRequestError("it is for another node, or for an earlier life of this supervisor")
        self._now_ms = max(self._now_ms, now_ms)
        window_ms = WINDOW_SECONDS * 1000
        self._seen = {seen: at for seen, at in self._seen.items() if at >= self._now_ms - window_ms}
        if request.time_ms < self._now_ms - window_ms:
            raise RefusedRequestError(f"it is {(self._now_ms - request.time_ms) / 1000:.0f} s old")
        if request.time_ms > self._now_ms + window_ms:
            raise RefusedRequestError("its time lies in the future")
        if request.request_id in self._seen:
            raise RefusedRequestError("it was sent before")
        self._seen[request.request_id] = request.time_ms
        return request

    def _signed(self, text: bytes | str) -> NodeRequest:
        """Return the request in a text that has our signature. Raises RefusedRequestError."""
        if len(text) > MAX_REQUEST_LENGTH:
            raise RefusedRequestError("it is too large")
        try:
            raw = decode(text)
            request = NodeRequest.from_raw(raw["request"])
            is_signed = hmac.compare_digest(_mac(self._key, "request", *astuple(request)), raw["mac"])
        except (ValueError, TypeError, KeyError):
            raise RefusedRequestError("it is not a request of wsd") from None
        if not is_signed:
            raise RefusedRequestError("its signature is wrong: the sender has another cluster.cluster_key, or none")
        return request


def _mac(key: str, use: str, *fields: object) -> str:
    """Return the HMAC-SHA256 of fields. As JSON, no two lists of fields have the same text."""
    return hmac.new(key.encode(), json.dumps([f"wsd node {use}", *fields]).encode(), hashlib.sha256).hexdigest()
