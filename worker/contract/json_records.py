"""Read records from JSON that others have written."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

MAX_NUMBER = 2**53
"""Larger numbers are in no record of ours, and do not survive the way through a float."""


def decode(text: str | bytes) -> Any:
    """Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def check_types(record: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError where a value has not the type of the field of this dataclass."""
    for known in fields(record):
        value = values.get(known.name, known.default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = is_number if known.type is float else isinstance(value, known.type)  # type: ignore[arg-type]
        if known.type is int:
            fits = fits and is_number
        if not fits or (is_number and not -MAX_NUMBER <= value <= MAX_NUMBER):
            raise ValueError(f"{known.name} is not of the type {known.type}")
