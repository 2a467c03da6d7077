"""The parameters in the query of requests: how they are read, and how the OpenAPI document describes them."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from wsd.worker.endpoints.responses import ApiError

MAX_DIGITS = 20
"""Digits of a number in a query."""


@dataclass(frozen=True)
class Number:
    """A parameter that is an integer from 0 to `highest`."""

    name: str
    meaning: str
    default: int
    highest: int

    def of(self, request: Request) -> int:
        """Return the number in a request. Raises ApiError for one that is not between 0 and `highest`."""
        text = request.query_params.get(self.name, str(self.default))
        if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or int(text) > self.highest:
            raise ApiError(400, f"{self.name} must be an integer from 0 to {self.highest}, got {text[:MAX_DIGITS]!r}")
        return int(text)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 0, "maximum": self.highest, "default": self.default}


@dataclass(frozen=True)
class Flag:
    """A parameter that is true or false. The default is false."""

    name: str
    meaning: str

    def of(self, request: Request) -> bool:
        """Return whether a request has the parameter as `true` or `1`."""
        return request.query_params.get(self.name, "").lower() in ("1", "true")

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", "default": False}


@dataclass(frozen=True)
class Text:
    """A parameter that is a text. With `choices` it has one of them; any other text means the first."""

    name: str
    meaning: str
    choices: tuple[str, ...] = ()

    def of(self, request: Request) -> str:
        """Return the text in a request. The default is the first of the choices, or the empty text."""
        text = request.query_params.get(self.name, "")
        return text if not self.choices or text in self.choices else self.choices[0]

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", **({"enum": self.choices, "default": self.choices[0]} if self.choices else {})}


Parameter = Number | Flag | Text
