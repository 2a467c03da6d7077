"""The declaration of a request of the HTTP API: what it takes, who may send it, and what it is answered with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wsd.worker.contract.api_keys import Right
from wsd.worker.endpoints.parameters import Number, Parameter
from wsd.worker.worker import Worker

Endpoint = Callable[[Worker, Request], Awaitable[Response]]


@dataclass(frozen=True, eq=False)
class Route:
    """A request of the HTTP API. The docstring of `endpoint` is its description."""

    method: str
    path: str
    """The path. One that ends with `/` is followed by the name of a channel."""

    endpoint: Endpoint
    answers: Mapping[int, tuple[Any, ...]]
    """The types of which the body of an answer is one, by status. `str` is plain text, any other type is JSON."""

    right: Right | None = None
    """The right that the API key of a request needs. None: a request needs no key."""

    for_administrators: bool = False
    """Whether only the addresses in `nginx.admin_allow` are answered."""

    parameters: tuple[Parameter, ...] = ()
    body: tuple[Any, ...] = ()
    """The types of which the body of a request is one."""

    errors: tuple[int, ...] = ()
    """The statuses of errors beyond those that follow from the other fields."""

    @property
    def of_channel(self) -> bool:
        """Whether the path is followed by the name of a channel."""
        return self.path.endswith("/")

    @property
    def error_statuses(self) -> list[int]:
        """The statuses with which an ErrorAnswer comes."""
        found = set(self.errors)
        if self.right is not None:
            found |= {401, 403, 404}
        if self.for_administrators:
            found.add(403)
        if self.of_channel:
            found.add(400)
        if self.body:
            found |= {400, 413}
        if any(isinstance(parameter, Number) for parameter in self.parameters):
            found.add(400)
        return sorted(found)
