"""The functions of the application that are called when something happens to its clients."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, get_args

import msgspec

from wsd.worker.background.waiting import raise_if_cancelled
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.webhook_rules import EventType
from wsd.worker.hooks.records import ClientCall, ClientMessage, Event, MessageRefusedError
from wsd.worker.logs import get_logger
from wsd.worker.security.authentication import load_hook

logger = get_logger(__name__)

CALL_SECONDS = 10.0
"""How long a function may take. It is cancelled then, unless it is a plain function that blocks the event loop."""

HookName = Literal["on_connect", "on_disconnect", "on_subscribe", "on_unsubscribe", "on_message"]

HOOK_NAMES: tuple[HookName, ...] = get_args(HookName)

EVENTS_OF: Mapping[HookName, EventType] = {
    "on_connect": "connected",
    "on_disconnect": "disconnected",
    "on_subscribe": "subscribed",
    "on_unsubscribe": "unsubscribed",
}
"""The type of events that each function gets. `on_message` gets no event, but a message that waits for its answer."""

Hook = Callable[[Any], Any | Awaitable[Any]]

_registered: dict[HookName, Hook] = {}


class HookTakenError(ValueError):
    """The application has a function for this hook already."""

    def __init__(self, name: HookName, present: Hook) -> None:
        super().__init__(f"{name} is {_name_of(present)} already; a process has one function for each hook")


def register(name: HookName, function: Hook) -> None:
    """Make a function the one of this process for a hook. To be called before the worker of the process starts.

    A function of the same module and name replaces its predecessor: a module that is loaded again, or a factory of
    applications that runs again, defines its functions anew.

    Raises HookTakenError if there is another function already.
    """
    present = _registered.get(name)
    if present is not None and _name_of(present) != _name_of(function):
        raise HookTakenError(name, present)
    _registered[name] = function


class HookFunctions:
    """The application's functions, as a worker calls them: one of the settings comes before one that is registered."""

    def __init__(self, from_settings: Mapping[HookName, Hook]) -> None:
        self._from_settings = dict(from_settings)

    @classmethod
    def load(cls, env: WorkerEnv) -> "HookFunctions":
        """Import the functions that the settings name. Raises ValueError if one cannot be imported."""
        specs: dict[HookName, str] = {name: getattr(env, f"hook_{name}") for name in HOOK_NAMES}
        return cls({name: load_hook(f"hooks.{name}", spec) for name, spec in specs.items() if spec})

    def get(self, name: HookName) -> Hook | None:
        return self._from_settings.get(name) or _registered.get(name)

    @property
    def on_message(self) -> Hook | None:
        return self.get("on_message")

    @property
    def event_types(self) -> frozenset[EventType]:
        """The types of events that some function gets."""
        return frozenset(kind for name, kind in EVENTS_OF.items() if self.get(name) is not None)

    async def tell(self, event: Event) -> None:
        """Call the function for an event, if there is one. An exception in it is logged."""
        kind = type(event).__struct_config__.tag
        name = next(name for name, of in EVENTS_OF.items() if of == kind)
        function = self.get(name)
        if function is None:
            return
        try:
            await _call(function, event)
        except (Exception, asyncio.CancelledError):
            raise_if_cancelled()  # otherwise something that the application awaited was cancelled
            logger.exception("hooks.%s failed for the event %s", name, event.id)

    async def filter(self, message: ClientMessage) -> ClientMessage:
        """Ask `on_message` what becomes of a message: return it as it is, or as the function has changed it.

        Raises MessageRefusedError if the function refuses the message; with the code `internal_error` if the function
        fails, takes too long, or returns something else.
        """
        function = self.on_message
        if function is None:
            return message
        try:
            answer = await _call(function, message)
            if answer is None:
                return message
            if not isinstance(answer, ClientMessage):
                raise TypeError(f"on_message must return a ClientMessage or None, not {answer!r}")
        except MessageRefusedError:
            raise
        except (Exception, asyncio.CancelledError):
            raise_if_cancelled()
            logger.exception("hooks.on_message failed")
            raise MessageRefusedError("the server could not do it", "internal_error") from None
        return answer


NO_HOOKS = HookFunctions({})
"""No functions in the settings."""


async def filtered_data(functions: HookFunctions, message: ClientMessage) -> msgspec.Raw:
    """Return the data of a message, as JSON, that `on_message` lets pass. Raises MessageRefusedError."""
    answer = await functions.filter(message)
    try:
        return msgspec.Raw(msgspec.json.encode(answer.data))
    except Exception:
        logger.exception("hooks.on_message returned data that JSON cannot express")
        raise MessageRefusedError("the server could not do it", "internal_error") from None


async def answer_to(function: Hook, call: ClientCall) -> msgspec.Raw:
    """Return the answer of the application to a call, as JSON.

    Raises MessageRefusedError if the function raises it; with the code `internal_error` if the function fails, takes
    too long, or returns what JSON cannot express.
    """
    try:
        return msgspec.Raw(msgspec.json.encode(await _call(function, call)))
    except MessageRefusedError:
        raise
    except (Exception, asyncio.CancelledError):
        raise_if_cancelled()
        logger.exception("centrifuge.rpc failed for %s", call.method)
        raise MessageRefusedError("the server could not do it", "internal_error") from None


async def _call(function: Hook, argument: Any) -> Any:
    async with asyncio.timeout(CALL_SECONDS):
        answer = function(argument)
        return await answer if inspect.isawaitable(answer) else answer


def _name_of(function: Hook) -> str:
    name = getattr(function, "__qualname__", repr(function))
    return f"{getattr(function, '__module__', '')}:{name}"
