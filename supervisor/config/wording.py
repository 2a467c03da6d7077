"""Describe the values and types of settings in error messages."""

import contextlib
import difflib
from collections.abc import Iterable
from typing import Any

from msgspec import inspect as types

from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.config.settings import MAX_COUNT, MAX_SECONDS

MAX_SHOWN_LENGTH = 200
"""The most characters of a wrong value that an error shows."""


def describe_type(wanted: Any, value: Any) -> str:
    """Describe the values of a type in words, like `an integer from 1 to 256`.

    MAX_SECONDS and MAX_COUNT are only named where `value` is beyond them: no sensible value comes near.
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
            if isinstance(info.item_type, types.LiteralType):
                return "a list of " + ", ".join(f'"{value}"' for value in info.item_type.values)
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
    """Write a value as in TOML, without the password of a URL."""
    if isinstance(value, str):
        return f'"{redacted(value) if "://" in value else value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def brief(value: object) -> str:
    """Write a value like `show`, cut to MAX_SHOWN_LENGTH characters."""
    try:
        text = show(value)
    except ValueError:
        return "a number with thousands of digits"
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message with the most similar of the `known` names, or "" if none is similar."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {close[0]}?" if close else ""
