"""Put values and types of settings into the words of an error message."""

import contextlib
import difflib
from typing import Any

from msgspec import inspect as types

from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.config.sections import MAX_COUNT, MAX_SECONDS

MAX_SHOWN_LENGTH = 200
"""Characters of a wrong value in an error."""


def describe_type(wanted: Any, value: Any) -> str:
    """Say in words which values a type takes: `an integer from 1 to 256`.

    A limit that is only there against nonsense is named where `value` is beyond it.
    """
    info = types.type_info(wanted)
    match info:
        case types.BoolType():
            return "true or false"
        case types.StrType():
            return "a string"
        case types.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in info.values)
        case types.VarTupleType():
            return "a list of strings"
        case types.IntType() | types.FloatType():
            noun = "an integer" if isinstance(info, types.IntType) else "a number"
            if info.le in (MAX_SECONDS, MAX_COUNT):
                with contextlib.suppress(TypeError, ValueError, OverflowError):
                    if float(value) > info.le:
                        return f"{noun} of at most {info.le}"
            elif info.ge is not None and info.le is not None:
                return f"{noun} from {info.ge} to {info.le}"
            if info.ge is not None:
                return f"{noun} of at least {info.ge}"
            return f"{noun} above {info.gt}"
    raise AssertionError(f"no words for {wanted}")


def show(value: object) -> str:
    if isinstance(value, str):
        return f'"{redacted(value) if "://" in value else value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def brief(value: object) -> str:
    """Show a value in an error: its beginning, where it is long."""
    try:
        text = show(value)
    except ValueError:
        return "a number with thousands of digits"
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"


def did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""
