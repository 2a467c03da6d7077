"""What the conformance programs in Python share: their events, and answers as plain objects."""

import dataclasses
import gc
import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wsd.client import Left, State

Command = dict[str, Any]

_writing = threading.Lock()
_last_calls = {"connect", "reconnect", "close", "waiting", "discard_waiting", "mark_read", "memory", "heard"}


def report(event: str, **fields: Any) -> None:
    """Write an event as a line of JSON."""
    line = json.dumps({"event": event, "at": time.time(), **fields}, default=str)
    with _writing:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class Careless:
    """Callbacks that report, and then fail where the test wants it."""

    how = ""
    """How they fail: "throws", or "rejects" as a coroutine does, or not at all."""
    is_quiet = False
    """Whether messages are only counted."""
    heard = 0

    @classmethod
    def fail(cls) -> object:
        async def reject() -> None:
            raise ArithmeticError("careless")

        if cls.how == "throws":
            raise ArithmeticError("careless")
        return reject() if cls.how == "rejects" else None


def report_state(state: State) -> object:
    report("state", **dataclasses.asdict(state))
    return Careless.fail()


def report_left(left: Left) -> object:
    report("left", channel=left.channel, code=left.code)
    return Careless.fail()


def report_error(error: Exception) -> object:
    report("error", text=repr(error))
    return Careless.fail()


def handle_event(event: Command) -> object:
    """Report an event as a function of a channel does."""
    report_event(event)
    return Careless.fail()


def handlers() -> dict[str, Any]:
    """Return the functions of a channel, where they are to fail. Otherwise the iteration reports everything."""
    names = ("handler", "on_gap", "on_presence") if Careless.how else ()
    return dict.fromkeys(names, handle_event)


def handle_message(message: Command) -> None:
    """Report a message that a function of its channel gets."""
    report("handled", message=message)
    report_event(message)


def report_event(event: Command) -> None:
    """Report what an iteration over the client yields."""
    Careless.heard += event["type"] == "message"
    if Careless.is_quiet and event["type"] == "message":
        return
    match event["type"]:
        case "gap":
            report("gap", channel=event["channel"], reason=event["reason"])
        case "presence_changed":
            report("presence", change=event)
        case _:
            report("message", message=event)


def settled(command: Command, answer: object) -> None:
    """Report the answer of a call, without its empty fields, and with the position as the fields of the hub."""
    fields = dict(answer) if isinstance(answer, dict) else {}
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        fields = dataclasses.asdict(answer)
        fields = {**(fields.pop("position", None) or {}), **fields}
    report("settled", call=command["call"], ok={name: value for name, value in fields.items() if value is not None})


def failed(command: Command, error: Exception) -> None:
    report("settled", call=command["call"], code=getattr(error, "code", type(error).__name__), text=str(error))


def is_immediate(command: Command) -> bool:
    """Return whether a command needs no answer of the hub."""
    return command["do"] in _last_calls


def client_options(command: Command, never: Callable[[], object]) -> Command:
    """Return the options of the constructor. Several `tokens` become a function; None among them fails.

    `never`: what a function does that does not return, for the token "never".
    """
    options = dict(command.get("options", {}))
    Careless.how = options.pop("careless", "")
    Careless.is_quiet = options.pop("quiet", False)
    options.pop("echo", None)
    token = token_option(options.pop("tokens", ()), never)
    return {**options, **token, "on_state": report_state, "on_left": report_left, "on_error": report_error}


def token_option(tokens: Iterable[str | None], never: Callable[[], object] = lambda: None) -> Command:
    """Return the option `token`: a function that returns one of the tokens after the other, or nothing for none."""
    left = list(tokens)

    def next_token() -> object:
        token = left.pop(0) if len(left) > 1 else left[0]
        report("token_asked", token=token)
        if token is None:
            raise LookupError("no token today")
        return never() if token == "never" else str(token)

    return {"token": next_token} if left else {}


def subscribe_options(command: Command) -> Command:
    """Return the functions and arguments of `subscribe`."""
    functions = {"handler": handle_message} if command.get("handled") else handlers()
    return {**functions, **given(command, "last", "token"), **token_option(command.get("tokens", ()))}


def given(command: Command, *names: str) -> Command:
    """Return those arguments that the command has."""
    return {name: command[name] for name in (*names, "timeout") if name in command}


def echo_of(command: Command, event: Command) -> Command | None:
    """Return the command that answers a message in another channel, where the test wants it."""
    channels = command.get("options", {}).get("echo", {})
    if event["type"] != "message" or event["channel"] not in channels:
        return None
    data = event["data"]
    return {"do": "publish", "channel": channels[event["channel"]], "data": data, "call": f"echo of {data}"}


def unencodable() -> list[object]:
    """Return data that cannot be written as JSON."""
    circle: list[object] = []
    circle.append(circle)
    return [object(), float("nan"), float("inf"), {1, 2}, b"bytes", circle, {(1, 2): 3}, 1j]


def memory() -> Command:
    """Return the bytes of memory that the process has now, and had at most."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bytes": pages * resource.getpagesize(), "resident": pages * resource.getpagesize(), "highest": highest}


def single_commands(command: Command) -> list[Command]:
    """Return the publications that `publish_many` stands for, or the command itself."""
    if command["do"] != "publish_many":
        return [command]
    number = command["call"]
    return [
        {**command, "do": "publish", "data": data, "call": f"{number}.{index}"}
        for index, data in enumerate(command["data"])
    ]
