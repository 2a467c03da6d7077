"""JSON and texts, as the hub takes them."""

import json
import re
from typing import Any, Final, TypeGuard

from wsd.client.errors import NOT_ENCODABLE, RequestError

LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is a text that can be sent: one that UTF-8 can write."""
    return isinstance(value, str) and LONE_SURROGATE.search(value) is None


def encoded(fields: dict[str, Any]) -> tuple[str, int]:
    """Return a JSON object as text, and the bytes of it.

    Raises RequestError `not_encodable`.
    """
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text, len(text.encode())
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestError(NOT_ENCODABLE, f"this cannot be sent as JSON: {exc}") from None


def decoded(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text, or None if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
