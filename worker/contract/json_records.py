"""Read records from JSON that another process has written, and trust none of it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

MAX_NUMBER = 2**53
"""The largest number in a record. No field needs a larger one, and larger ones lose digits as floats."""


def decode(text: str | bytes) -> Any:
    """Parse JSON.

    Raises ValueError, also for nesting that is too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def check_types(record: type, values: Mapping[str, Any]) -> None:
    """Check that values have the types of the fields of the dataclass `record`.

    Raises ValueError with the name of the first field whose value has another type, or is a number beyond MAX_NUMBER.
    """
    for known in fields(record):
        value = values.get(known.name, known.default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = is_number if known.type is float else isinstance(value, known.type)  # type: ignore[arg-type]
        if known.type is int:
            fits = fits and is_number
        if not fits or (is_number and not -MAX_NUMBER <= value <= MAX_NUMBER):
            raise ValueError(f"{known.name} is not of the type {known.type}")
