"""A filter for the data that clients send, before it is relayed: it must not be too deep, or have sensitive fields.

Most data need not be decoded. So it is searched as bytes first, and decoded only if that finds a key that could be
sensitive, an escape that could hide one, or many brackets. No I/O.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from wsd.worker.wire.messages import RequestError

MAX_DEPTH = 32
"""The maximum number of levels of objects and arrays in the data of clients."""

MAX_DIGITS = 4300
"""Python's limit for integers in text (sys.int_info). A longer one would raise in every Python client."""

_long_number = re.compile(rb"[0-9]{%d}" % MAX_DIGITS)


class PayloadFilter:
    """Removes fields by name, at any depth and in any case, and refuses data of more than `max_depth` levels."""

    def __init__(self, sensitive_fields: Iterable[str], max_depth: int = MAX_DEPTH) -> None:
        self._names = frozenset(name.casefold() for name in sensitive_fields if name)
        self._max_depth = max_depth
        self._hints = (rb"\u", *(name.encode() for name in self._names))
        # A search in bytes ignores the case of ASCII letters only.
        self._always = not all(name.isascii() for name in self._names)

    def __call__(self, data: Raw) -> Raw:
        """Return the data as it may be relayed.

        Raises RequestError `too_deep`, or `invalid_request` if the data is not JSON.
        """
        text = bytes(data)
        shallow = text.count(b"{") + text.count(b"[") <= self._max_depth
        if len(text) > MAX_DIGITS and _long_number.search(text):
            shallow = False  # within a string it is harmless
        if shallow and not self._always:
            lowered = text.lower()
            if not any([hint in lowered for hint in self._hints]):  # noqa: C419 - faster than one regular expression
                return data
        try:
            return Raw(msgspec.json.encode(self._clean(msgspec.json.decode(text), self._max_depth)))
        except RecursionError:
            raise RequestError("too_deep", f"data may have {self._max_depth} levels") from None
        except msgspec.DecodeError as exc:
            raise RequestError("invalid_request", str(exc)) from None

    def _clean(self, value: Any, levels: int) -> Any:
        if not isinstance(value, dict | list):
            return value
        if levels == 0:
            raise RecursionError
        if isinstance(value, list):
            return [self._clean(item, levels - 1) for item in value]
        return {k: self._clean(v, levels - 1) for k, v in value.items() if k.casefold() not in self._names}
